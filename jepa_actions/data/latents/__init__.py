"""A frozen encoder's latents, in memory or on disk."""
