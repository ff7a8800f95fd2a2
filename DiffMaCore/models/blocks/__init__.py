"""The blocks of Table 2's systems, one a file, all in one residual frame and over one selective scan."""
