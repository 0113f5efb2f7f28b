"""Run and check behaviour cases.

A behaviour case is a list of actions, such as sending or aborting a request, each with an expected outcome. Actions are
performed in order, through the engine's Python API (that of vLLM) or an HTTP server.
"""
