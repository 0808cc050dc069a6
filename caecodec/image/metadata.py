"""ICC profile, EXIF and XMP: read from Pillow's `info`."""

from __future__ import annotations

from typing import Any

from PIL import Image

from caecodec.errors import ImageError

_EXIF_PREFIX = b"Exif\0\0"
_XMP_PNG_KEY = "XML:com.adobe.xmp"


def metadata_of(image: Image.Image) -> dict[str, bytes]:
    """Return those of icc_profile, exif (without the JPEG prefix) and xmp that an image has.

    Raises:
        ImageError: one of them is of a type that `as_bytes` refuses.
    """
    names = ("icc_profile", "exif", "xmp")
    try:
        found = {name: as_bytes(name, image.info.get(name)) for name in names}
        found["xmp"] = found["xmp"] or as_bytes("xmp", image.info.get(_XMP_PNG_KEY))
    except TypeError as error:
        raise ImageError(f"the image's {error}") from error
    found["exif"] = found["exif"].removeprefix(_EXIF_PREFIX)
    return {name: value for name, value in found.items() if value}


def as_bytes(name: str, value: Any) -> bytes:
    """Return metadata as a file holds it; empty for None.

    Raises:
        TypeError: not bytes, nor text for XMP, nor `Image.Exif` for EXIF.
    """
    if value is None:
        return b""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if name == "xmp" and isinstance(value, str):
        return value.encode()
    if name == "exif" and isinstance(value, Image.Exif):
        return value.tobytes()
    expected = {"xmp": "bytes or a str", "exif": "bytes or an Image.Exif"}.get(name, "bytes")
    raise TypeError(f"{name} is of type {type(value).__name__}, expected {expected}")
