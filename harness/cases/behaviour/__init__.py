"""Run and check behaviour cases.

A behaviour case is a list of actions, such as requests and aborts, with their expected outcomes. The actions are
performed in order, through vLLM's Python API or an HTTP server.
"""
