"""How the bundled demo came about: every network from nothing, on procedural phantoms; ``chain.train`` in order."""
