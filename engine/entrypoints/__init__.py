"""The entry points of the engine: offline, asyncio, HTTP."""
