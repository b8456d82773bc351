"""Data: what is read, in which order, and the latents that are kept of it."""
