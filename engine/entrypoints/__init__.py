"""How requests reach the engine: offline, with asyncio, over HTTP."""
