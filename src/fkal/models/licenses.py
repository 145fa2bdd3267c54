"""Licenses of pretrained weights: which may be used by anybody for anything, and which have to be accepted by name."""

from fkal.errors import ConfigError

FREE = ("apache", "mit", "bsd", "cc-by")
"""What the names of free licenses start with."""

NOT_FREE = ("cc-by-nc", "cc-by-nd", "cc-by-sa")
"""Kinds of CC-BY that forbid or demand something."""

NOT_STATED = "not stated"


def is_free(license_name: str) -> bool:
    """Whether the license is Apache, MIT, BSD or CC-BY. One that is not stated counts as free: its author is asked."""
    name = license_name.lower()
    return name == NOT_STATED or (name.startswith(FREE) and not name.startswith(NOT_FREE))


def refuse_unaccepted(model: str, license_name: str, accepted: str | None) -> None:
    """Raises ConfigError for weights under a license that has to be accepted and was not."""
    if is_free(license_name) or (accepted or "").lower() == license_name.lower():
        return
    said = "" if accepted is None else f" (accepted is {accepted!r}, another one)"
    raise ConfigError(
        f"model.name = {model!r}: its weights are under the license {license_name}{said}, which is neither Apache, "
        f"MIT, BSD nor CC-BY; read it, then give --accept-license {license_name}, or take another model"
    )
