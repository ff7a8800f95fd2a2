"""``python -m Training.reproduce``: one experiment's folders in, the paper's tables and figures out."""
