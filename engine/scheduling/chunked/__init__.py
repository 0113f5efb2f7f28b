"""The chunked scheduler: chunked prefill with prefix caching and pausing.

Source of every rule: docs/scheduling-rules-chunked.md.
"""
