"""vLLM's own scheduler: a budget of tokens a step, decodes and prompt chunks mixed, preemption by recomputation.

Source of every rule: docs/scheduling-rules-token-budget.md.
"""
