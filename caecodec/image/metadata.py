"""What a file keeps of an image's metadata, ICC profile, EXIF and XMP, and what it does not."""

from __future__ import annotations

import dataclasses
from typing import Any

from PIL import Image

from caecodec.errors import ImageError
from caecodec.format.boxes import MAX_METADATA, METADATA_BOXES
from caecodec.image.exif import EXIF_PREFIX, exif_of_dpi, has_resolution
from caecodec.image.formats import find_in
from caecodec.image.xmp import PNG_KEY

_COUNTED = {
    *METADATA_BOXES,
    *("transparency", "dpi", "resolution", "orientation", "compression", "interlace", "version"),
    *("jfif", "jfif_version", "jfif_unit", "jfif_density", "adobe", "adobe_transform"),
    *("progressive", "progression", "mp", "mpoffset", "photoshop", "flashpix"),
    *("srgb", "gamma", "chromaticity", "aspect", "nclx_profile", "bit_depth"),
    *("primary", "chroma", "tiling", "tile_size", "icc_profile_type"),
    *("background", "loop", "timestamp", "duration", "extension", "default_image", "sizes"),
    *("bbox", "disposal", "blend", "scale", "File size (no of images)"),
    *("Image type", "Image size (x*y)", "original_orientation", "metadata", "thumbnails"),
}
"""What Pillow's `info` has that is stored, means nothing for one picture, or is named elsewhere."""
_PICTURE_FORMATS = {"ICO", "ICNS", "CUR"}
"""Formats of one picture in several sizes."""


@dataclasses.dataclass(frozen=True)
class Metadata:
    """What is known of an image beside its pixels.

    Attributes:
        kept: any of icc_profile, exif (without the JPEG prefix) and xmp.
        left: names of what no `.cae` file stores, such as "IPTC" or "a comment".
    """

    kept: dict[str, bytes]
    left: tuple[str, ...]


def metadata_of(image: Image.Image) -> Metadata:
    """Return an image's metadata: of a file that is not yet loaded, also what Pillow skips.

    Raises:
        ImageError: some is of a type that `as_bytes` refuses.
    """
    found = find_in(image)
    try:
        kept = {name: as_bytes(name, image.info.get(name)) for name in METADATA_BOXES}
        kept["xmp"] = kept["xmp"] or as_bytes("xmp", image.info.get(PNG_KEY))
    except TypeError as error:
        raise ImageError(f"the image's {error}") from error
    kept = {name: getattr(found, name) or value for name, value in kept.items()}
    kept["exif"] = kept["exif"].removeprefix(EXIF_PREFIX)
    left = [*_other_pictures(image), *found.left, *_other_info(image)]
    if dpi := _resolution(image):
        if not kept["exif"]:
            kept["exif"] = exif_of_dpi(dpi)
        elif exif_of_dpi(dpi) and not has_resolution(kept["exif"]):
            left.append(f"{round(dpi[0])} dpi")
    for name, value in kept.items():
        if len(value) > MAX_METADATA:
            kept[name] = b""
            left.append(f"{name} of {len(value):,} bytes")
    stored = {name: value for name, value in kept.items() if value}
    return Metadata(stored, tuple(dict.fromkeys(left)))


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


def _other_pictures(image: Image.Image) -> list[str]:
    """Name the pictures of a file beside the one that is stored."""
    others = 0
    if image.format == "MPO":
        others = getattr(image, "n_frames", 1) - 1
    elif image.format in _PICTURE_FORMATS:
        others = len(list(image.info.get("sizes", ()))) - 1
    return [f"{others} more picture{'s' if others > 1 else ''}"] if others > 0 else []


def _other_info(image: Image.Image) -> list[str]:
    """Name what else Pillow read; of a PNG file, `find_in` names all."""
    if image.format == "PNG":
        return []
    others = [key for key, value in image.info.items() if value and key not in _COUNTED]
    return ["a comment" if key == "comment" else str(key) for key in others]


def _resolution(image: Image.Image) -> tuple[float, float] | None:
    try:
        across, down = (float(value) for value in image.info["dpi"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    return (across, down) if 0 < across < 1e6 and 0 < down < 1e6 else None
