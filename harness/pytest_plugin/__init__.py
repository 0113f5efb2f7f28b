"""The harness as a plugin of pytest."""
