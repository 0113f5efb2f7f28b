"""Run and check cases. There are three kinds of cases.

- Scheduler-step cases compare the engine's state after every step with a step table.
- Output cases compare generated tokens and logprobs.
- Behaviour cases send requests to an engine or a server, and check the answers.
"""
