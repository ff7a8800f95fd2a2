"""Training of every part of a bundle, one file a part; ``demo.train`` runs them in order.

Needs the extra ``train``. Nothing in the package that runs a model imports this.
"""
