"""The networks of DiffMa: denoiser, Vision Embedder and image encoder."""
