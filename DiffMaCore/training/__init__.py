"""From paired volumes to a bundle and to the paper's tables; needs the extra ``train``, and nothing that runs a model
imports it."""
