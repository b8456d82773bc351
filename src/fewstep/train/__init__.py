"""Training: one loop, its resumable state, and the objectives that run in it."""
