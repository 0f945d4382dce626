"""Who is next at a backend: queues, policies, shares, reservations. Plain functions on plain data."""
