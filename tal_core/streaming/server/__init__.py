"""The server: detections of a file by HTTP, scores and events of a stream by WebSocket."""
