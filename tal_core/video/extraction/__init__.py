"""Features of many videos: folders, workers, jobs."""
