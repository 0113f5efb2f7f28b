"""vLLM's own scheduler: a token budget per step, mixed decodes and prompt chunks, preemption by recomputation.

Source of every rule: docs/scheduling-rules-token-budget.md.
"""
