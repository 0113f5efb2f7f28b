"""Check a run of an engine: its steps, its outputs, and its scheduler events. Each check returns a ``Verdict``."""
