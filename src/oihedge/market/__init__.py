"""What the world says: venues through ccxt, archive files and imported files; the only door to ccxt."""
