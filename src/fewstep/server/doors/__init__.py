"""The APIs that existing clients speak, and our own over HTTP, each a thin translation onto the engine."""
