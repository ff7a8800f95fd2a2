"""Latent diffusion: CT slices in, latents and decoded MR slices out; and what a denoiser learns."""
