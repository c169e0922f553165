"""Latent world models from video, inverse dynamics on the same latents, and planning with both."""

__version__ = "0.1.0"
