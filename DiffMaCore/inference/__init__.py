"""From a CT volume to a synthetic MRI: one volume, many, and what came of it."""
