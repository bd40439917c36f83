"""Work in processes of its own: start, watch, stop, survey."""
