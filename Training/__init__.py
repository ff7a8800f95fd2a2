"""Configurations of trainings, and what repeats the paper; in the sources alone."""
