"""From a trained model and features to detections."""
