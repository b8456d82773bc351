"""Give me something that can generate: every kind of model becomes one `Model`."""
