"""Config, loop, run directory and background launch."""
