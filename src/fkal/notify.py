"""How rooms below the terminal say a line to whoever watches."""

from collections.abc import Callable

Notify = Callable[[str], None]
"""Takes one line for people; the command line prints it on standard error."""
