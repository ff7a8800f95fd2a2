"""Volumes: reading CTs, checking them, the grid of model slices, and writing results."""
