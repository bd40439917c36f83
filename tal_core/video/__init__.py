"""Frames in, features out: reading videos and the built-in feature extractor."""
