"""From candidates to detections: NMS, fusion, the lab."""
