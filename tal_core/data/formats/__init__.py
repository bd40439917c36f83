"""The files of the world: annotations, detections, class scores, subtitles."""
