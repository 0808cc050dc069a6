"""Formats that Pillow reads with a plugin, which is imported when an image needs it."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import re

from PIL import UnidentifiedImageError

PREFIX_LENGTH = 16
"""Bytes at the start of a file by which its format is known."""


class MissingPluginError(UnidentifiedImageError):
    """An image of a format whose plugin is not installed."""


@dataclasses.dataclass(frozen=True)
class Plugin:
    """A package that teaches Pillow to read a format.

    Attributes:
        name: of the format.
        package: what pip installs.
        module: what is imported.
        register: the function in it that registers the format; "" where importing does.
        signature: how files start.
        suffixes: of the files.
    """

    name: str
    package: str
    module: str
    register: str
    signature: re.Pattern[bytes]
    suffixes: frozenset[str]

    @property
    def is_installed(self) -> bool:
        """Whether the module can be found; it is not imported."""
        return importlib.util.find_spec(self.module) is not None

    @property
    def advice(self) -> str:
        """What to do where it is not installed."""
        return f"pip install {self.package}"


PLUGINS = (
    Plugin(
        name="HEIC",
        package="pillow-heif",
        module="pillow_heif",
        register="register_heif_opener",
        signature=re.compile(rb"....ftyp(?:hei[cmsx]|hev[cmsx]|mif1|msf1)", re.DOTALL),
        suffixes=frozenset({".heic", ".heics", ".heif", ".heifs", ".hif"}),
    ),
    Plugin(
        name="JPEG XL",
        package="pillow-jxl-plugin",
        module="pillow_jxl",
        register="",
        signature=re.compile(rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n"),
        suffixes=frozenset({".jxl"}),
    ),
)


def load_plugin_for(prefix: bytes) -> None:
    """Register the plugin of the format of a file that starts with these bytes, if there is one.

    Raises:
        MissingPluginError: it is not installed.
    """
    for plugin in PLUGINS:
        if plugin.signature.match(prefix):
            if not plugin.is_installed:
                raise MissingPluginError(f"{plugin.name}: {plugin.advice}, and it is read")
            module = importlib.import_module(plugin.module)
            if plugin.register:
                getattr(module, plugin.register)()


def plugin_suffixes() -> frozenset[str]:
    """Return the suffixes of the formats whose plugins are installed."""
    return frozenset().union(*(plugin.suffixes for plugin in PLUGINS if plugin.is_installed))


def missing_plugins() -> dict[str, str]:
    """Return suffix -> what to do, of the formats whose plugins are not installed."""
    missing = [plugin for plugin in PLUGINS if not plugin.is_installed]
    return {suffix: plugin.advice for plugin in missing for suffix in plugin.suffixes}
