"""Files of boxes, AVIF, HEIF, JPEG 2000, JPEG XL: colours by number, metadata that Pillow skips."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import IO

from PIL import Image

from caecodec.image.color_profile import coded_colors, icc_profile
from caecodec.image.formats.boxes import boxes, properties
from caecodec.image.formats.found import Found

_EXIF = b"JpgTiffExif->JP2"
_XMP = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_NAMED = {
    bytes.fromhex("33c7a4d2b81d4723a0baf1a3e097ad38"): "IPTC",
    bytes.fromhex("b14bf8bd083d4b43a5ae8cd7d5a6ce03"): "GeoTIFF fields",
}
_NUMBERED, _PROFILES = 1, (2, 3)
"""Methods of a JPEG 2000 file's colr box."""
_SRGB_SPACES = (16, 17, 18)
"""Enumerated: sRGB, its gray, its YCC."""
_STRUCTURE = {b"jP  ", b"ftyp", b"jp2h", b"jp2c", b"rreq", b"free", b"skip"}


def read(image: Image.Image, file: IO[bytes], found: Found) -> None:
    """Add to `found` what a file of boxes holds."""
    if image.format == "JPEG2000":
        _read_jpeg2000(file, found)
        return
    if image.format == "JXL":
        _read_jxl(file, found)
        return
    for kind, first, last in properties(file):
        if kind == b"colr" and last - first >= 8:
            file.seek(first)
            form, primaries, transfer = struct.unpack(">4sHH", file.read(8))
            if form == b"nclx":  # the first is that of the picture; alpha's follow
                _take_code_points(image, primaries, transfer, found)
                break
    if _has_gain_map(file):
        found.left.append("an HDR gain map")


def _take_code_points(image: Image.Image, primaries: int, transfer: int, found: Found) -> None:
    colors = coded_colors(primaries, transfer)
    if colors is None:
        found.left.append(f"colours of code points {primaries}, {transfer} (nclx)")
    elif not colors.is_srgb and not image.info.get("icc_profile"):
        found.icc_profile = icc_profile(colors, gray=image.mode in {"L", "LA"})


def _has_gain_map(file: IO[bytes]) -> bool:
    """Return whether an item is of type tmap (ISO 21496-1) or says so in its auxiliary type."""
    end = file.seek(0, 2)
    for kind, first, last in boxes(file, 0, end):
        if kind == b"meta":
            file.seek(first)
            content = file.read(last - first)
            return b"infe" in content and (b"tmap" in content or b"hdrgainmap" in content)
    return False


def _read_jpeg2000(file: IO[bytes], found: Found) -> None:
    end = file.seek(0, 2)
    others: dict[str, None] = {}
    for kind, first, last in _inner_boxes(file, end):
        file.seek(first)
        if kind == b"colr":
            _take_color(file.read(last - first), found)
        elif kind == b"uuid":
            content = file.read(last - first)
            _take_uuid(content[:16], content[16:], found)
        elif kind == b"xml ":
            others["XML"] = None
        elif kind not in _STRUCTURE:
            others[f"JPEG 2000 boxes {kind.decode('latin-1').strip()}"] = None
    found.left += others


def _read_jxl(file: IO[bytes], found: Found) -> None:
    file.seek(4)
    if file.read(4) != b"JXL ":  # a codestream alone, or its pixels, once they are loaded
        return
    for kind, first, last in boxes(file, 0, file.seek(0, 2)):
        file.seek(first)
        content = file.read(last - first)
        if kind == b"xml ":
            found.xmp = content
        elif kind == b"jumb":
            found.left.append("JUMBF metadata")
        elif kind == b"brob":
            found.left.append(f"compressed metadata ({content[:4].decode('latin-1').strip()})")


def _inner_boxes(file: IO[bytes], end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield the boxes of a JPEG 2000 file, and colours from those in its header."""
    file.seek(0)
    if file.read(4)[:2] == b"\xff\x4f":  # a codestream without boxes
        return
    for kind, first, last in boxes(file, 0, end):
        if kind == b"jp2h":
            yield from (box for box in boxes(file, first, last) if box[0] == b"colr")
        else:
            yield kind, first, last


def _take_color(content: bytes, found: Found) -> None:
    method = content[0]
    if method in _PROFILES:
        found.icc_profile = found.icc_profile or content[3:]
    elif method == _NUMBERED:
        (space,) = struct.unpack_from(">I", content, 3)
        if space not in _SRGB_SPACES:
            found.left.append(f"colours of JPEG 2000's space {space}")


def _take_uuid(uuid: bytes, content: bytes, found: Found) -> None:
    if uuid == _EXIF:
        found.exif = content
    elif uuid == _XMP:
        found.xmp = content
    else:
        found.left.append(_NAMED.get(uuid, f"a box of UUID {uuid.hex()}"))
