"""How good detections are: matching with ground truth, average precision, kinds of errors."""
