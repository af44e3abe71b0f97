"""Commands: words in, plain values out. Importing a room of this package puts its commands into `registry.TABLE`."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules


def load() -> None:
    """Put every command into the table."""
    for room in iter_modules(__path__):
        import_module(f"{__name__}.{room.name}")
