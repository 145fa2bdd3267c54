"""What a user can set right. Imports nothing: the parts that read files raise it before anything heavy is loaded."""


class ConfigError(ValueError):
    """One line a problem: the key, the value, what is allowed."""
