"""Other programs' checkpoints and detections become runs."""
