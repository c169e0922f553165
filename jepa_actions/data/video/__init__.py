"""Frames of video files by number, exactly and quickly."""
