"""How qslurm's own processes talk to each other, over Unix sockets and over TCP.

`frames` is what travels, `peer` who is at the other end, `failures` how an error travels; `blocking` waits for one
frame after the other.
"""
