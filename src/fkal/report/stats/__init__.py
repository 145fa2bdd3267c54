"""Statistics of finished experiments."""
