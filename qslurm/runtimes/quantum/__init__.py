"""The process of a quantum runtime, on the dispatcher's host or on another one."""
