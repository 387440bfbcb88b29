"""Photo colorization models: trained, published, compared and used."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from colorhub.colorizer import Colorizer
    from colorhub.hub import list_variants

from colorhub.errors import (
    ColorhubError,
    DataError,
    HubError,
    NotFoundError,
    OptionError,
    PhotoError,
    TrainingError,
    VariantError,
)

__all__ = [
    "ColorhubError",
    "Colorizer",
    "DataError",
    "HubError",
    "NotFoundError",
    "OptionError",
    "PhotoError",
    "TrainingError",
    "VariantError",
    "list_variants",
]
__version__ = "0.1.0"

_LATE = {"Colorizer": "colorhub.colorizer", "list_variants": "colorhub.hub"}


def __getattr__(name: str) -> object:
    """torch is imported when it is needed: `colorhub --help` answers without it."""
    if name in _LATE:
        import importlib

        return getattr(importlib.import_module(_LATE[name]), name)
    raise AttributeError(f"module 'colorhub' has no attribute {name!r}")
