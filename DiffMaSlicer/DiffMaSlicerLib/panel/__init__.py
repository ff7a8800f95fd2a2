"""The panel: what is seen and clicked; the work is the logic's."""
