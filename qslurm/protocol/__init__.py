"""The messages between C2's services, jobs and centers, and the keys that authenticate them."""
