"""BMN: boundary-matching network."""
