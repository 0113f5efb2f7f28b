"""Drivers: the interface between the harness and engines. No other package of the harness depends on an engine."""
