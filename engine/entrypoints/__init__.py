"""The entry points of the engine: ``LLM`` (offline), ``AsyncLLM`` (asyncio), and an HTTP server."""
