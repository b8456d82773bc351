"""Words to text states."""
