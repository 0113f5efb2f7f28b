"""Chunked prefill with prefix caching and pausing; the scheduler after the one-tkv batch.

Source of every rule: docs/scheduling-rules-chunked.md.
"""
