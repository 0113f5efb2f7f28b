"""Run the requests of a case on an engine step by step, and record the state after each step as a step table."""
