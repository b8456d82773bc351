"""What adapters do to the layers of a network: the arithmetic of their files, and the layers that carry them."""
