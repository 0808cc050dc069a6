"""ICC profile, EXIF and XMP: read from Pillow's `info`, written by options of its `save`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

KEEPS_METADATA = frozenset({"PNG", "JPEG", "WEBP", "AVIF", "TIFF"})
"""Pillow formats that can hold all three."""
_EXIF_PREFIX = b"Exif\0\0"
_XMP_PNG_KEY = "XML:com.adobe.xmp"
_XMP_TIFF_TAG = 700


def metadata_of(image: Image.Image) -> dict[str, bytes]:
    """Return those of icc_profile, exif (without the JPEG prefix) and xmp that an image has."""
    found: dict[str, bytes] = {}
    if image.info.get("icc_profile"):
        found["icc_profile"] = bytes(image.info["icc_profile"])
    if image.info.get("exif"):
        found["exif"] = bytes(image.info["exif"]).removeprefix(_EXIF_PREFIX)
    xmp = image.info.get("xmp") or image.info.get(_XMP_PNG_KEY)
    if xmp:
        found["xmp"] = xmp.encode() if isinstance(xmp, str) else bytes(xmp)
    return found


def save_options(metadata: Mapping[str, bytes], image_format: str) -> dict[str, Any]:
    """Return the keyword arguments of Pillow's `save` that write the metadata."""
    options: dict[str, Any] = dict(metadata)
    if "exif" in options and image_format in {"JPEG", "WEBP", "AVIF"}:
        options["exif"] = _EXIF_PREFIX + metadata["exif"]
    if "xmp" in options and image_format == "PNG":
        chunks = PngInfo()
        chunks.add_itxt(_XMP_PNG_KEY, options.pop("xmp").decode("utf-8", "surrogateescape"))
        options["pnginfo"] = chunks
    if "xmp" in options and image_format == "TIFF":
        options["tiffinfo"] = {_XMP_TIFF_TAG: options.pop("xmp")}
    return options
