"""The page of finished experiments."""
