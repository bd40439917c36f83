"""The demo dataset: untrimmed videos of an articulated figure, drawn by code from one seed.

``script`` decides what happens in a video, ``actions`` how each action moves the joints, ``figure`` where
the joints are in the picture, ``drawing`` what it looks like. ``tal_core.video.drawing.demo_videos``
encodes the videos and extracts their features.
"""
