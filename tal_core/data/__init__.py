"""Annotations, detections, features and the datasets made of them."""
