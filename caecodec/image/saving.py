"""Writing the image formats of `decompress`; no metadata, however odd, keeps pixels from a file."""

from __future__ import annotations

import struct
from collections.abc import Collection
from typing import Any, BinaryIO

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from caecodec.errors import ImageError, first_line
from caecodec.image.exif import (
    EXIF_PREFIX,
    ORIENTATION,
    UNKNOWN_DPI,
    dpi_of,
    is_sound,
    read_directory,
)
from caecodec.image.image_files import long_text, open_up_to
from caecodec.image.metadata import metadata_of
from caecodec.image.tiff import write_tiff
from caecodec.image.xmp import PNG_KEY, segments

FORMATS = {
    ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".avif": "AVIF",
    ".tif": "TIFF", ".tiff": "TIFF", ".bmp": "BMP", ".ppm": "PPM", ".pgm": "PPM", ".pnm": "PPM",
}  # fmt: skip
"""Suffix -> Pillow format of the images that `decompress` writes."""
_KEEPS_ALPHA = {"PNG", "WEBP", "AVIF", "TIFF"}
_KEEPS_METADATA = {"PNG", "JPEG", "WEBP", "AVIF", "TIFF"}
_KEEPS_DPI = {"PNG", "JPEG", "BMP"}  # in a field of their own; TIFF has it among the tags of EXIF
_QUALITY_OPTIONS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True, "exact": True},  # colours under transparent pixels, too
    "AVIF": {"quality": 95},
}
_JPEG_LIMITS = {
    "exif": 65_533 - len(EXIF_PREFIX),  # one segment
    "icc_profile": 255 * 65_519,  # 255 segments, of which Pillow would write more, and slowly
}


class _ExifAsItIs(Image.Exif):
    """EXIF of which Pillow's AVIF writer takes the orientation; the rest it would code anew."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._as_it_is = EXIF_PREFIX + data
        orientation = read_directory(data).numbers.get(ORIENTATION, 1)
        if orientation in range(2, 9):  # those that turn or mirror
            self[ORIENTATION] = int(orientation)

    def __bool__(self) -> bool:
        return True

    def tobytes(self, offset: int = 8) -> bytes:  # noqa: ARG002 - Pillow's signature
        return self._as_it_is


def save_image(image: Image.Image, target: BinaryIO, image_format: str) -> list[str]:
    """Write an image in a Pillow format, with its metadata and, where it has any, its DPI.

    Returns:
        Names of the metadata that the format cannot hold, or that is too damaged or long for it:
        any of exif, icc_profile and xmp.

    Raises:
        ImageError: the format has no alpha channel, or cannot hold the pixels.
    """
    if "A" in image.getbands() and image_format not in _KEEPS_ALPHA:
        raise ImageError(f"{image_format} cannot hold alpha, choose .png, .webp, .avif or .tiff")
    metadata = metadata_of(image).kept
    kept = {name: value for name, value in metadata.items() if _holds(image_format, name, value)}
    info, image.info = image.info, {}  # only what the options name is written
    try:
        if image_format == "TIFF":
            write_tiff(image, target, **kept)
        else:
            options = _metadata_options(kept, image_format) | _dpi_options(metadata, image_format)
            image.save(target, image_format, **_QUALITY_OPTIONS.get(image_format, {}), **options)
    except Exception as error:  # Pillow may raise anything
        raise ImageError(f"cannot write {image_format}: {first_line(error)}") from error
    finally:
        image.info = info
    return sorted(metadata.keys() - kept.keys())


def check_saved(
    written: BinaryIO, image: Image.Image, image_format: str, dropped: Collection[str]
) -> None:
    """Check that a written image opens, is of the right size, and has all metadata but some.

    Raises:
        ImageError: it does not.
    """
    try:
        with long_text(), open_up_to(image.width * image.height, written) as saved:
            size, found = saved.size, set(metadata_of(saved).kept)
    except Exception as error:  # Pillow may raise anything
        raise ImageError(f"what was written cannot be read: {first_line(error)}") from error
    if sorted(size) != sorted(image.size):  # a reader may show it upright
        raise ImageError(f"what was written is {size[0]} x {size[1]} pixels")
    found |= {"exif"} if image_format == "TIFF" else set()  # there it is the file's own tags
    if missing := metadata_of(image).kept.keys() - found - set(dropped):
        raise ImageError(f"what was written lacks its {', '.join(sorted(missing))}")


def _holds(image_format: str, name: str, value: bytes) -> bool:
    """Whether a format can hold this metadata, so that readers still read the pixels."""
    if name == "exif" and image_format in {"AVIF", "TIFF"}:  # it is a part of their structure
        return is_sound(value)
    if name == "xmp" and image_format == "PNG":
        return _is_text(value)
    if image_format == "JPEG":
        return len(value) <= _JPEG_LIMITS.get(name, len(value))
    return image_format in _KEEPS_METADATA


def _is_text(value: bytes) -> bool:
    try:
        return "\0" not in _unpadded(value).decode()
    except UnicodeDecodeError:
        return False


def _unpadded(xmp: bytes) -> bytes:
    """Return XMP without the NULs with which some writers end it."""
    text = xmp.rstrip(b"\0")
    return text if text.endswith(b">") else xmp


def _metadata_options(metadata: dict[str, bytes], image_format: str) -> dict[str, Any]:
    """Return the keyword arguments of Pillow's `save` that write the metadata."""
    options: dict[str, Any] = dict(metadata)
    if "exif" in options and image_format in {"JPEG", "WEBP"}:
        options["exif"] = EXIF_PREFIX + metadata["exif"]
    if "exif" in options and image_format == "AVIF":
        options["exif"] = _ExifAsItIs(metadata["exif"])
    if "xmp" in options and image_format == "PNG":
        options["pnginfo"] = PngInfo()
        options["pnginfo"].add_itxt(PNG_KEY, _unpadded(options.pop("xmp")).decode())
    if "xmp" in options and image_format == "JPEG":
        options["extra"] = b"".join(map(_app1, segments(options.pop("xmp"))))
    return options


def _dpi_options(metadata: dict[str, bytes], image_format: str) -> dict[str, Any]:
    """Return the keyword argument of Pillow's `save` that writes the DPI, if there is any."""
    if "exif" not in metadata or image_format not in _KEEPS_DPI:
        return {}
    dpi = dpi_of(metadata["exif"])
    if image_format == "JPEG":  # else Pillow's reader looks in the EXIF, and may fail on damage
        dpi = dpi or (UNKNOWN_DPI, UNKNOWN_DPI)
    return {"dpi": dpi} if dpi else {}


def _app1(content: bytes) -> bytes:
    return b"\xff\xe1" + struct.pack(">H", 2 + len(content)) + content
