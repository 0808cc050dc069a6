"""PNG: text that holds EXIF, XMP or an ICC profile; colour chunks; chunks that are not stored."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import IO

from PIL import Image

from caecodec.format.boxes import MAX_METADATA
from caecodec.image.color_profile import Colors, coded_colors, icc_profile
from caecodec.image.exif import EXIF_PREFIX
from caecodec.image.formats.found import Found
from caecodec.image.xmp import PNG_KEY, SEGMENT_PREFIX

_SIGNATURE_BYTES = 8
_TEXT = {b"tEXt", b"zTXt", b"iTXt"}
_KNOWN = _TEXT | {
    *(b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"cICP"),
    *(b"eXIf", b"pHYs", b"acTL", b"fcTL", b"fdAT"),
    b"iDOT",  # where Apple's decoder starts its second half
}
_PROFILE = "Raw profile type "
_GRAY = {"1", "L", "LA"}


def read(image: Image.Image, file: IO[bytes], found: Found) -> None:
    """Add to `found` what a PNG file holds."""
    others: dict[str, None] = {}
    texts: dict[str, None] = {}
    for kind, content in _chunks(file, found):
        if kind in _TEXT:
            keyword, value = _text(kind, content)
            if not _take(keyword, value, found):
                texts[keyword] = None
        elif kind == b"eXIf":
            found.exif = content
        elif kind == b"cICP":
            _take_code_points(image, content, found)
        elif kind not in _KNOWN:
            others[kind.decode("latin-1")] = None
    _take_chromaticities(image, found)
    found.left += [f"text ({', '.join(texts)})"] if texts else []
    found.left += [f"PNG chunks {', '.join(others)}"] if others else []
    across, down = image.info.get("aspect", (1, 1))
    found.left += [f"pixels of {across}:{down}"] if across != down else []


def _chunks(file: IO[bytes], found: Found) -> Iterator[tuple[bytes, bytes]]:
    """Yield type and content of the chunks, no pixels among them; up to a cut."""
    end = file.seek(0, 2)
    start = _SIGNATURE_BYTES
    while start + 12 <= end:
        file.seek(start)
        length, kind = struct.unpack(">I4s", file.read(8))
        yield kind, b"" if kind in {b"IDAT", b"fdAT"} else file.read(length)
        start += 12 + length
        if kind == b"IEND":
            break
    if start < end:
        found.left.append(f"{end - start:,} bytes after the image")


def _text(kind: bytes, content: bytes) -> tuple[str, bytes]:
    """Return keyword and value; of a value that cannot be inflated, nothing."""
    keyword, _, value = content.partition(b"\0")
    is_deflated = kind == b"zTXt"
    if kind == b"iTXt":
        is_deflated = value[:1] == b"\1"
        value = value[2:].split(b"\0", 2)[2]
    elif is_deflated:
        value = value[1:]
    if is_deflated:
        try:
            value = zlib.decompressobj().decompress(value, MAX_METADATA)
        except zlib.error:
            value = b""
    return keyword.decode("latin-1"), value


def _take(keyword: str, value: bytes, found: Found) -> bool:
    """Take text that holds metadata; return whether it does."""
    if keyword == PNG_KEY:
        found.xmp = value
        return bool(value)
    if not keyword.startswith(_PROFILE):
        return False
    content = _unhexed(value)
    kind = keyword.removeprefix(_PROFILE)
    if kind in {"exif", "APP1"} and content.startswith(SEGMENT_PREFIX):
        found.xmp = found.xmp or content.removeprefix(SEGMENT_PREFIX)
    elif kind in {"exif", "APP1"} and content:
        found.exif = found.exif or content.removeprefix(EXIF_PREFIX)
    elif kind == "xmp" and content:
        found.xmp = found.xmp or content
    elif kind in {"icc", "icm"} and content:
        found.icc_profile = content
    elif kind == "iptc":
        found.left.append("IPTC")
    else:
        return False
    return True


def _unhexed(value: bytes) -> bytes:
    """Return what ImageMagick wrote: a line with a name, one with a length, lines of hex digits."""
    _, _, digits = value.lstrip().partition(b"\n")
    _, _, digits = digits.lstrip().partition(b"\n")
    try:
        return bytes.fromhex(digits.decode("ascii"))
    except ValueError:
        return b""


def _take_code_points(image: Image.Image, content: bytes, found: Found) -> None:
    """Take a cICP chunk, which takes precedence over all others about colour."""
    primaries, transfer = content[0], content[1]
    colors = coded_colors(primaries, transfer)
    if colors is None:
        found.left.append(f"colours of code points {primaries}, {transfer} (cICP)")
    elif not colors.is_srgb:
        found.icc_profile = icc_profile(colors, gray=image.mode in _GRAY)


def _take_chromaticities(image: Image.Image, found: Found) -> None:
    """Take gAMA and cHRM chunks, which count where nothing else states colours."""
    if found.icc_profile or image.info.get("icc_profile") or "srgb" in image.info:
        return
    points = image.info.get("chromaticity")
    inverse = image.info.get("gamma")  # a PNG file states 1 / gamma
    try:
        colors = Colors(gamma=1 / inverse if inverse else None)
        if points is not None:
            white, red, green, blue = zip(points[::2], points[1::2], strict=True)
            colors = Colors(white, red, green, blue, colors.gamma)
        if not colors.is_srgb:
            found.icc_profile = icc_profile(colors, gray=image.mode in _GRAY)
    except ValueError:
        found.left.append("colours that nothing can have (gAMA, cHRM)")
