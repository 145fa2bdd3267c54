"""The DVC pipeline: its plan, its stages, what they publish and restore."""
