"""Golden step tables: read, written, blessed."""
