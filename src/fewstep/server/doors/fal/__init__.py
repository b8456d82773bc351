"""The API of fal's applications."""
