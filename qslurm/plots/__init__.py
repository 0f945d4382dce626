"""Results as CSV rows and as charts for a terminal or a file."""
