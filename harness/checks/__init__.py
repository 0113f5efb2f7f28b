"""Observed against expected: each check returns a verdict, with the table that shows what broke."""
