"""From paired volumes to a bundle and to the paper's tables; ``demo`` holds the demo bundle's own chain.

Needs the extra ``train``. Nothing in the package that runs a model imports this.
"""
