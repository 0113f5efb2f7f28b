"""Drivers, the interface between the harness and the engines under test.

No other package of the harness imports an engine.
"""
