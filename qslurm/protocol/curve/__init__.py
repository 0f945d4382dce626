"""Encrypted ZeroMQ (CURVE) between the dispatcher and quantum runtimes on other hosts."""
