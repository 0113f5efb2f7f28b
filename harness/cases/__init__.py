"""Run and check cases, by kind."""
