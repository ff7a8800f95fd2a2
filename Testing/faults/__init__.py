"""What is killed, filled up, cut off or lost midway: nothing is lost, and nothing half-made is taken for whole."""
