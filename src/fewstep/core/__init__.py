"""The mathematics of consistency models. Imports torch and nothing else: no files, no global randomness."""
