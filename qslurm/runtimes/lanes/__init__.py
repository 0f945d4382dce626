"""LaneSet: memory that a hybrid job and a quantum runtime share, lent to them by the dispatcher for a while (a lease).

Each of the three has its side here: `client` is the job's, `service` the quantum runtime's, `leases` the
dispatcher's, which is told of tasks and runtimes by what `interface` declares. docs/decisions/lanes.md says why.
"""
