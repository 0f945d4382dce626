"""The dispatcher's sockets: Unix, TLS for sessions, and lanes."""
