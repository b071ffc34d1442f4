"""Delta tables, append-only and read as-of; the only door to deltalake."""
