"""Real-time localization: sources of frames, online detectors, events, and the server."""
