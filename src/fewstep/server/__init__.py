"""Live pictures for many people at once: one engine that owns the network, and the doors into it."""
