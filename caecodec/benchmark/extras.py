"""The optional dependencies of the benchmark."""

from __future__ import annotations

from types import ModuleType

from caecodec import extras


def import_extra(name: str) -> ModuleType:
    """Import a module from the optional `bench` dependencies.

    Raises:
        ConfigError: it is not installed.
    """
    return extras.import_extra(name, "bench")
