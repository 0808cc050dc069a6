"""The optional dependencies of the benchmark, named when they are missing."""

from __future__ import annotations

import importlib
from types import ModuleType

from caecodec.errors import ConfigError


def import_extra(name: str) -> ModuleType:
    """Import a module of the optional `bench` dependencies.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        hint = "pip install 'caecodec[bench]'"
        raise ConfigError(f"the benchmark cannot import {name}, expected it from {hint}") from error
