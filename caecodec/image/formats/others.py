"""Formats that hold little else, or whose other fields no reader of pictures shows."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import IO

from PIL import Image

from caecodec.image.color_profile import Colors, icc_profile
from caecodec.image.formats.found import Found


def read(image: Image.Image, file: IO[bytes], found: Found) -> None:
    """Add to `found` what a file of one of these formats holds."""
    _READERS[image.format or ""](image, file, found)


def _read_bmp(image: Image.Image, file: IO[bytes], found: Found) -> None:
    """Take the colours of headers of version 4 and 5."""
    file.seek(0)
    start = 14 if file.read(2) == b"BM" else 0
    file.seek(start)
    header = file.read(124)
    (size,) = struct.unpack_from("<I", header)
    if size < 108:  # version 4
        return
    space = header[56:60][::-1]
    if space == b"MBED":
        offset, length = struct.unpack_from("<II", header, 112)
        file.seek(start + offset)
        found.icc_profile = file.read(length)
    elif space == b"LINK":
        found.left.append("a link to an ICC profile")
    elif space == bytes(4):
        _take_endpoints(image, struct.unpack_from("<9I3I", header, 60), found)


def _take_endpoints(image: Image.Image, values: tuple[int, ...], found: Found) -> None:
    """Take a calibrated RGB space: X, Y and Z of three primaries, and three gammas."""
    if not any(values[:9]) or not all(values[9:]):
        return
    xyz = [[value / 2**30 for value in values[at : at + 3]] for at in (0, 3, 6)]
    xyz.insert(0, [sum(parts) for parts in zip(*xyz, strict=True)])
    white, red, green, blue = ((x / (x + y + z), y / (x + y + z)) for x, y, z in xyz)
    colors = Colors(white, red, green, blue, gamma=values[9] / 2**16)
    if len(set(values[9:])) > 1:
        found.left.append("a gamma for each channel")
    elif not colors.is_srgb:
        found.icc_profile = icc_profile(colors, gray=image.mode in {"1", "L"})


def _read_dds(_: Image.Image, file: IO[bytes], found: Found) -> None:
    file.seek(112)
    (more,) = struct.unpack("<I", file.read(4))
    if more & 0x200:
        found.left.append("5 more faces of a cube")
    if more & 0x200000:
        found.left.append("the depth of a volume")


def _read_fields(image: Image.Image, _: IO[bytes], found: Found) -> None:
    found.left.append(f"fields of {image.format}'s header")


def _read_ppm(_: Image.Image, file: IO[bytes], found: Found) -> None:
    file.seek(0)
    fields = 0
    while fields < 3 and (line := file.readline(1024)):  # type, size, greatest level
        text, mark, _comment = line.partition(b"#")
        fields += len(text.split()[:4]) - (b"P" in text)
        if mark:
            found.left.append("a comment")
            return


def _read_psd(image: Image.Image, _: IO[bytes], found: Found) -> None:
    resources = {number: data for number, _, data in getattr(image, "resources", [])}
    found.exif = resources.get(1058, b"")
    found.xmp = resources.get(1060, b"")
    if 1028 in resources:
        found.left.append("IPTC")
    if set(resources) - {1028, 1039, 1058, 1060}:
        found.left.append("Photoshop resources")
    if getattr(image, "n_frames", 0):
        found.left.append("Photoshop layers")


def _read_tga(_: Image.Image, file: IO[bytes], found: Found) -> None:
    file.seek(max(0, file.seek(0, 2) - 26))
    footer = file.read()
    if footer[8:24] != b"TRUEVISION-XFILE":
        return
    extension, developer = struct.unpack_from("<II", footer)
    if extension:
        found.left.append("the extension area")
    if developer:
        found.left.append("the developer area")


def _read_webp(_: Image.Image, file: IO[bytes], found: Found) -> None:
    file.seek(0)
    if file.read(4) != b"RIFF":  # its pixels, once they are loaded
        return
    end = file.seek(0, 2)
    start = 12
    known = {b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"ICCP", b"EXIF", b"XMP "}
    while start + 8 <= end:
        file.seek(start)
        kind, length = struct.unpack("<4sI", file.read(8))
        if kind not in known:
            found.left.append(f"a chunk {kind.decode('latin-1').strip()}")
        start += 8 + length + length % 2


_READERS: dict[str, Callable[[Image.Image, IO[bytes], Found], None]] = {
    "BMP": _read_bmp,
    "DIB": _read_bmp,
    "DDS": _read_dds,
    "FITS": _read_fields,
    "PCD": _read_fields,
    "PPM": _read_ppm,
    "PSD": _read_psd,
    "TGA": _read_tga,
    "WEBP": _read_webp,
}
