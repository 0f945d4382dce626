"""What a job measured or computed, as rows for CSV and as a chart for a terminal or a file."""
