"""The shared path's inner loops, compiled by numba: float32, one thread, no Python objects, no GIL."""
