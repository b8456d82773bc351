"""How the machine at hand runs a network."""
