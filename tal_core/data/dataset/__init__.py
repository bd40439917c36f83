"""A registered dataset: its entry, its index of videos, its subsets, its health."""
