"""Check a run of an engine: its steps, its outputs, and the events that happened. Each check returns a verdict."""
