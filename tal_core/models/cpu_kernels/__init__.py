"""Faster equivalents of torch operators on a CPU."""
