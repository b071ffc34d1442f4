"""The point-in-time feature table."""
