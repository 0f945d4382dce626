"""How qslurm's own processes exchange messages, over Unix sockets and TCP.

`frames` is the format, `peer` and `credentials` authenticate, `failures` encodes errors. `blocking` is a client that
waits for each reply, `server` serves many connections in a poll loop.
"""
