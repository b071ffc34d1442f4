"""Search for hyper-parameters: what to try next, remembered on disk."""
