"""Compare observations with expectations. Each check returns a verdict with the data that shows the difference."""
