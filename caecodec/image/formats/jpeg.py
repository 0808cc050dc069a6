"""JPEG: extended XMP, gain maps, comments, other segments, and what follows the image."""

from __future__ import annotations

import re
import struct
from typing import IO

from PIL import Image

from caecodec.image.exif import EXIF_PREFIX
from caecodec.image.formats.found import Found
from caecodec.image.xmp import EXTENSION_PREFIX, SEGMENT_PREFIX, assembled, merged

_PHOTOSHOP = b"Photoshop 3.0\0"
_READ = {
    "APP0": (b"JFIF\0",),
    "APP1": (EXIF_PREFIX, SEGMENT_PREFIX, EXTENSION_PREFIX),
    "APP2": (b"ICC_PROFILE\0", b"MPF\0"),
    "APP13": (_PHOTOSHOP,),
    "APP14": (b"Adobe",),
}
"""How the segments start that Pillow or this module takes, or that are structure."""
_NAMED = {
    b"FPXR\0": "FlashPix",
    b"JFXX\0": "a JFXX thumbnail",
    b"JP": "content credentials (JUMBF)",
    b"Ducky": "Photoshop's save options",
    b"urn:iso:std:iso:ts:21496:-1\0": "an HDR gain map",
}
_RESOURCE = re.compile(rb"8BIM(..)", re.DOTALL)
_IPTC = b"\x04\x04"
"""The number of the Photoshop resource that holds it."""
_GAIN_MAP = re.compile(rb"hdrgm:Version|HDRGainMapVersion")
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_FILLER = b"\0\r\n "
_VIDEO = re.compile(rb"^.?ftyp|\0.ftyp", re.DOTALL)
"""How an ISO file starts, less zeros."""
_END = 0xD9


def read(image: Image.Image, file: IO[bytes], found: Found) -> None:
    """Add to `found` what a JPEG file holds."""
    segments: list[tuple[str, bytes]] = getattr(image, "applist", [])
    names: dict[str, None] = {}
    extensions = []
    for name, content in segments:
        if content.startswith(EXTENSION_PREFIX):
            extensions.append(content.removeprefix(EXTENSION_PREFIX))
        elif name == "COM":
            names["a comment"] = None
        elif not content.startswith(_READ.get(name, ())):
            known = [text for start, text in _NAMED.items() if content.startswith(start)]
            names[known[0] if known else f"segment {name}"] = None
    resources = b"".join(text for _, text in segments if text.startswith(_PHOTOSHOP))
    for kind in _RESOURCE.findall(resources):
        names["IPTC" if kind == _IPTC else "Photoshop resources"] = None
    xmp = image.info.get("xmp", b"")
    if extensions:
        found.xmp, missing = _whole_xmp(xmp, extensions)
        names |= dict.fromkeys(missing)
    if _GAIN_MAP.search(xmp):
        names["an HDR gain map"] = None
    file.seek(0)
    is_named = image.format == "MPO" or "an HDR gain map" in names
    names |= dict.fromkeys(_after_the_image(file.read(), counts_pictures=not is_named))
    found.left += names


def _whole_xmp(xmp: bytes, extensions: list[bytes]) -> tuple[bytes, list[str]]:
    """Return XMP with its extension, and what of it is missing."""
    extension = assembled(xmp, extensions)
    whole = merged(xmp, extension) if extension else None
    return (xmp, ["extended XMP"]) if whole is None else (whole, [])


def _after_the_image(data: bytes, *, counts_pictures: bool) -> list[str]:
    """Return what a file holds after the end of its image, pictures if they count."""
    names = []
    rest = data[_end_of_image(data) :].strip(_FILLER)
    while rest.startswith(b"\xff\xd8\xff"):
        names = ["another picture after the image"] if counts_pictures else []
        rest = rest[_end_of_image(rest) :].strip(_FILLER)
    if _VIDEO.search(rest[:65536]):
        names.append("a video after the image")
    elif rest:
        names.append(f"{len(rest):,} bytes after the image")
    return names


def _end_of_image(data: bytes) -> int:
    """Return where the first image of a file ends: after its EOI marker, or with the file."""
    place = 2
    while place + 4 <= len(data):
        found = _MARKER.search(data, place)
        if found is None:
            break
        marker = data[found.start() + 1]
        if marker == _END:
            return found.end()
        if found.end() + 2 > len(data):
            break
        (length,) = struct.unpack_from(">H", data, found.end())
        place = found.end() + length
    return len(data)
