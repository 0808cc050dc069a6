"""The metadata that a file holds and Pillow does not read, and the names of what is not stored."""

from __future__ import annotations

import dataclasses
import importlib
from typing import IO

from PIL import Image

_MODULES = {
    "PNG": "png",
    **dict.fromkeys(("JPEG", "MPO"), "jpeg"),
    **dict.fromkeys(("AVIF", "HEIF", "JPEG2000", "JXL"), "iso_media"),
    "TIFF": "tiff",
    "GIF": "gif",
    **dict.fromkeys(("BMP", "DIB", "DDS", "FITS", "PCD", "PPM", "PSD", "TGA", "WEBP"), "others"),
}
"""Pillow's name of a format -> the module here whose `read` knows it."""

_WITHOUT_TILES = {"WEBP", "HEIF", "JXL"}
"""Formats whose readers do not tell Pillow where the pixels are."""


@dataclasses.dataclass
class Found:
    """What a file holds beside its pixels.

    Attributes:
        icc_profile, exif, xmp: as a file stores them; empty where there is none, or where Pillow
            reads it from this format.
        left: what no `.cae` file stores, by names such as "IPTC" or "a comment".
    """

    icc_profile: bytes = b""
    exif: bytes = b""
    xmp: bytes = b""
    left: list[str] = dataclasses.field(default_factory=list)


def find_in(image: Image.Image) -> Found:
    """Look into the file of an image that is open and not yet loaded; its position is kept.

    Whatever is wrong with what it holds, its pixels can still be read: nothing is raised.
    """
    file: IO[bytes] | None = getattr(image, "fp", None)
    is_open = getattr(image, "tile", None) or image.format in _WITHOUT_TILES
    if file is None or not is_open or image.format not in _MODULES:
        return Found()
    module = importlib.import_module(f"caecodec.image.formats.{_MODULES[image.format]}")
    place = file.tell()
    found = Found()
    try:
        module.read(image, file, found)
    except Exception:  # noqa: BLE001 - damaged in any way
        found.left.append("metadata that cannot be read")
    finally:
        file.seek(place)
    return found
