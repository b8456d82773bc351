"""The parts of the starter: its art, its autoencoder, its words, its sheets. `recipes/starter.py` runs them."""
