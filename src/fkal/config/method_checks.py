"""Settings that a method cannot have, refused as soon as both are known. Imports no torch."""

from fkal.acquisition.registry import ACQUISITIONS, acquisition_of
from fkal.acquisition.settings import AcquisitionConfig
from fkal.errors import ConfigError


def refuse_unable_in_parts(settings: AcquisitionConfig) -> None:
    """Raises ConfigError where the method's choice needs the whole pool at once, and is to be made in parts.

    Raises ValueError for an unknown method.
    """
    entry = acquisition_of(settings)
    if settings.parts is None or entry.in_parts:
        return
    alone = settings.name not in ACQUISITIONS or entry is ACQUISITIONS[settings.name]
    method = settings.name if alone else f"{settings.name}:{settings.matching}"
    raise ConfigError(
        f"acquisition.parts = {settings.parts}: {method} does not choose in parts; take {_methods_in_parts()}, "
        "or leave acquisition.parts out"
    )


def _methods_in_parts() -> str:
    """`pcc, pfk (but not pfk:noisy_or), flqmi`."""
    named = []
    for name, entry in ACQUISITIONS.items():
        unable = [f"{name}:{matching}" for matching, other in entry.by_matching.items() if not other.in_parts]
        if entry.in_parts:
            named.append(f"{name} (but not {', '.join(unable)})" if unable else name)
    return ", ".join(named)
