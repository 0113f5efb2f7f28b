"""The OpenAI-compatible HTTP entry point (docs/server.md)."""
