"""TIFF: its own fields that describe the picture are EXIF; others are its structure."""

from __future__ import annotations

from typing import IO

from PIL import ExifTags, Image
from PIL.TiffImagePlugin import TiffImageFile

from caecodec.image.color_profile import Colors, icc_profile
from caecodec.image.exif import EXIF_PREFIX, ORIENTATION, STRUCTURAL_TAGS
from caecodec.image.formats.found import Found

_SUB_IFDS = 330
_NAMED = {33723: "IPTC", 34377: "Photoshop resources", 37724: "Photoshop layers"}
_WHITE, _PRIMARIES, _CURVE = 318, 319, 301
_READ = {700, 34675}
"""XMP and the ICC profile, which Pillow reads."""


def read(image: Image.Image, file: IO[bytes], found: Found) -> None:
    """Add to `found` the EXIF of a TIFF file, and what it holds beside it.

    Pillow turns the pixels of a TIFF file upright when it loads them: the orientation is not kept.
    """
    if not isinstance(image, TiffImageFile):
        return
    exif = Image.Exif()
    exif.bigtiff, exif.endian = image.tag_v2._bigtiff, image.tag_v2._endian  # noqa: SLF001
    exif.load_from_fp(file, image.tag_v2._offset)  # noqa: SLF001
    _take_colors(image, exif, found)
    kept = Image.Exif()
    kept.endian = exif.endian
    for tag in list(exif):
        if tag in _NAMED:
            found.left.append(_NAMED[tag])
        elif tag == _SUB_IFDS:
            found.left.append("pictures in sub-IFDs")
        elif tag not in STRUCTURAL_TAGS and tag not in _READ and tag != ORIENTATION:
            _copy(exif, tag, kept, found)
    if len(kept):
        found.exif = kept.tobytes().removeprefix(EXIF_PREFIX)


def _take_colors(image: TiffImageFile, exif: Image.Exif, found: Found) -> None:
    """Take white point and primaries, which count where no profile is; the curve is that of sRGB.

    TIFF prescribes a gamma of 2.2 where no transfer function is stated.
    """
    if image.info.get("icc_profile"):
        return
    if _CURVE in exif:
        found.left.append("a transfer function")
    white, points = exif.get(_WHITE), exif.get(_PRIMARIES)
    if white is None or points is None:
        return
    values = [float(value) for value in (*white, *points)]
    (x, y), red, green, blue = zip(values[::2], values[1::2], strict=True)
    colors = Colors((x, y), red, green, blue)
    if not colors.is_srgb:
        found.icc_profile = icc_profile(colors, gray=image.mode in {"1", "L"})


def _copy(exif: Image.Exif, tag: int, kept: Image.Exif, found: Found) -> None:
    """Copy a field and the fields below it, unless it cannot be written."""
    is_group = tag in {ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo}
    try:
        value = dict(exif.get_ifd(tag)) if is_group else exif[tag]
        alone = Image.Exif()
        alone[tag] = value
        alone.tobytes()
    except Exception:  # noqa: BLE001 - Pillow guesses the types of unknown fields
        found.left.append(f"TIFF field {tag}")
    else:
        kept[tag] = value
