"""Everything MLflow: trial runs, the report run, reading them back, the UI; and the pictures of a report."""
