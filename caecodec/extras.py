"""Optional dependencies, with a hint where one is missing."""

from __future__ import annotations

import importlib
from types import ModuleType

from caecodec.errors import ConfigError


def import_extra(name: str, extra: str) -> ModuleType:
    """Import a module from the optional dependencies `extra`.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        hint = f"pip install 'caecodec[{extra}]'"
        raise ConfigError(f"cannot import {name}, expected it from {hint}") from error
