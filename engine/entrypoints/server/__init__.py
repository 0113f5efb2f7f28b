"""The OpenAI-compatible HTTP front door (docs/server.md)."""
