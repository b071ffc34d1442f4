"""Other inputs than venues: on-chain figures, sentiment and dated events."""
