"""Online detection: snippets in, events out."""
