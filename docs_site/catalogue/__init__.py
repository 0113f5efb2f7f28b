"""The catalogue: every suite, case and requirement, from suites, golden tables and the scheduler's simulation."""
