"""Changing annotations: a draft of changes, and saving them."""
