"""Latent diffusion: conditions, noise, schedulers, the loss, and the pipeline of a bundle's networks."""
