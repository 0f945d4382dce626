"""An emulator that keeps one state vector, by qulacs."""
