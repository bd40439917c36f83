"""BSN: boundary-sensitive network."""
