"""``python -m Training.reproduce``: the paper's tables and figures from one experiment's folders."""
