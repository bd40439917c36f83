"""Videos made by code: detections burnt in, the demo."""
