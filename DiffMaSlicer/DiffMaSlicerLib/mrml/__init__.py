"""Between the scene and files: voxels out and in, regions, provenance, and places in the subject hierarchy."""
