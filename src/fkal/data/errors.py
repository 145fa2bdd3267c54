"""What can be wrong with data, each a class of its own so that the edge can answer it."""


class MissingData(FileNotFoundError):
    """A dataset is not on this machine and could not be brought; the message says what to put where."""


class CorruptData(ValueError):
    """A dataset's file is present but is not what its format says."""


class CorruptImage(CorruptData):
    """One or more image files cannot be decoded; the message names them."""


class CorruptSplit(ValueError):
    """A split file is not a whole, consistent split."""


class ForeignSplit(ValueError):
    """A split was drawn from other images than those it is used with."""
