"""Lanes: memory that a hybrid job and a quantum runtime share for a while, under a lease from the dispatcher.

Each of the three has its side here: `lane_client` is the job's, `lane_service` the quantum runtime's, `leases`
the dispatcher's, which uses tasks and runtimes through the protocols in `lane_protocols`.
docs/decisions/lanes.md says why.
"""
