"""Live sources, sessions and where their events go."""
