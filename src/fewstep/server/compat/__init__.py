"""The APIs that existing clients speak, each a thin translation onto the engine."""
