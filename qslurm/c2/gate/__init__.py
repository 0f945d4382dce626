"""The gate: opens and closes C2's partitions, and reports how jobs change."""
