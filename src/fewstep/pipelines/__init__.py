"""From a request to pictures; each file reads like the paper's algorithm."""
