"""GIF: comments, and the extensions of applications that hold XMP or an ICC profile."""

from __future__ import annotations

from typing import IO

from PIL import Image

from caecodec.image.formats.found import Found

_EXTENSION, _PICTURE, _TRAILER = 0x21, 0x2C, 0x3B
_CONTROL, _COMMENT, _TEXT, _APPLICATION = 0xF9, 0xFE, 0x01, 0xFF
_XMP, _ICC = b"XMP DataXMP", b"ICCRGBG1012"
_ANIMATION = (b"NETSCAPE2.0", b"ANIMEXTS1.0")
_XMP_TRAILER = 257
"""Bytes after XMP that lead a reader of sub-blocks to the end of them."""


def read(image: Image.Image, file: IO[bytes], found: Found) -> None:
    """Add to `found` what the extensions of a GIF file hold."""
    del image
    names: dict[str, None] = {}
    file.seek(10)
    file.seek(13 + _palette_bytes(file.read(1)[0]))
    while (kind := file.read(1)) and kind[0] != _TRAILER:
        if kind[0] == _PICTURE:
            file.seek(8, 1)
            file.seek(_palette_bytes(file.read(1)[0]) + 1, 1)
            _blocks(file)
        elif kind[0] == _EXTENSION:
            label = file.read(1)[0]
            if label == _APPLICATION:
                _take_application(file, found, names)
            elif _blocks(file) and label in {_COMMENT, _TEXT}:
                names["a comment" if label == _COMMENT else "text on the picture"] = None
        else:
            break
    found.left += names


def _take_application(file: IO[bytes], found: Found, names: dict[str, None]) -> None:
    application = file.read(file.read(1)[0])
    start = file.tell()
    content = _blocks(file)
    if application == _XMP:  # plain, not in sub-blocks
        end = file.tell()
        file.seek(start)
        found.xmp = file.read(end - start - 1 - _XMP_TRAILER)
        file.seek(end)
    elif application == _ICC:
        found.icc_profile = content
    elif application not in _ANIMATION:
        names[f"data of {application.decode('latin-1').strip()}"] = None


def _palette_bytes(flags: int) -> int:
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _blocks(file: IO[bytes]) -> bytes:
    """Return the content of sub-blocks, up to the empty one that ends them."""
    content = []
    while (length := file.read(1)) and length[0]:
        content.append(file.read(length[0]))
    return b"".join(content)
