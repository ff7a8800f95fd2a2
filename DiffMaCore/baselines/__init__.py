"""The systems that Table 2 compares DiffMa with, and how their parameters are matched."""
