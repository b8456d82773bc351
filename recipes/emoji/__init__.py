"""The parts of the starter: its art, its autoencoder, its words, its pictures on paper. `recipes/starter.py` runs them in order."""
