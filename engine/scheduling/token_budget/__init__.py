"""The token-budget scheduler: vLLM's own scheduler.

Each step has a budget of tokens, which decodes and chunks of prompts share. A preempted request is computed again.
Source of every rule: docs/scheduling-rules-token-budget.md.
"""
