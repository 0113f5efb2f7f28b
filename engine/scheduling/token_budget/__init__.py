"""The token-budget scheduler: vLLM's own scheduler.

Each step has a budget of tokens, which decodes and chunks of prompts share. If blocks are missing, a running request is
preempted: it loses its blocks, and its tokens are computed again later.
Source of every rule: docs/scheduling-rules-token-budget.md.
"""
