"""EXIF blocks: fields that describe a TIFF file's own structure; a resolution in them."""

from __future__ import annotations

from PIL import Image

STRUCTURAL_TAGS = frozenset({
    *(254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, 277, 278, 279, 280, 281, 284),
    *(288, 289, 290, 291, 292, 293, 297, 301, 317, 318, 319, 320, 321, 322, 323, 324, 325, 326),
    *(327, 328, 330, 332, 333, 334, 336, 337, 338, 339, 340, 341, 342, 343, 344, 345, 346, 347),
    *(351, 400, 401, 402, 403, 404, 405, 433, 434, 435, 512, 513, 514, 515, 517, 518, 519, 520),
    *(521, 529, 530, 531, 532, 559, 32995, 32996, 32997, 50838, 50839),
})  # fmt: skip
"""Tags of TIFF 6.0 and its supplements that say how pixels are laid out and coded."""
_X, _Y, _UNIT = 282, 283, 296
_INCH = 2
_UNKNOWN_DPI = 72
"""What EXIF prescribes where the resolution is not known."""


def exif_of_dpi(dpi: tuple[float, float]) -> bytes:
    """Return an EXIF block that holds a resolution in pixels per inch; empty for an unknown one."""
    if all(round(value) in {0, 1, _UNKNOWN_DPI} for value in dpi):
        return b""
    exif = Image.Exif()
    exif.endian = "<"
    exif[_X], exif[_Y], exif[_UNIT] = dpi[0], dpi[1], _INCH
    return exif.tobytes().removeprefix(b"Exif\0\0")


def has_resolution(exif: bytes) -> bool:
    """Return whether an EXIF block states a resolution, or is too damaged to tell."""
    fields = Image.Exif()
    try:
        fields.load(exif)
    except Exception:  # noqa: BLE001 - Pillow's parser raises anything
        return True
    return _X in fields
