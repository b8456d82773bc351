"""OpenAI's Images API."""
