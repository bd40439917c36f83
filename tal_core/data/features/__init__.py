"""Feature arrays on disk."""
