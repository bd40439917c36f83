"""What turns frames into features."""
