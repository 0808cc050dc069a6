"""Facts of a file, read from its header and boxes: no torch, no numpy."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from caecodec.errors import CodecError
from caecodec.format.constants import MAX_SIDE
from caecodec.format.container import HEADER_BYTES, box_sizes, lossless_pixels, unpack_header
from caecodec.weights import model_name


@dataclasses.dataclass(frozen=True)
class FileInfo:
    """Facts of a `.cae` file.

    Attributes:
        width, height: in pixels.
        mode: L, LA, RGB or RGBA.
        quality: 0..100; it says nothing of what is lossless.
        model: name of the shipped model that made it, or None.
        digest: digest that identifies the model in the file, in hex.
        num_tiles: number of tiles.
        num_lossless_tiles: those stored losslessly as a whole.
        lossless_share: share of the pixels that are stored losslessly, 0 to 1.
        num_bytes: size of the file.
        bpp: bits per pixel, of the whole file.
        box_bytes: bytes by box type, in order of appearance, the header first.
    """

    width: int
    height: int
    mode: str
    quality: float
    model: str | None
    digest: str
    num_tiles: int
    num_lossless_tiles: int
    lossless_share: float
    num_bytes: int
    bpp: float
    box_bytes: dict[str, int]

    @property
    def is_lossless(self) -> bool:
        """Whether all of the image is stored losslessly."""
        return self.num_lossless_tiles == self.num_tiles

    @property
    def fidelity(self) -> str:
        """The quality in words, and how much is lossless."""
        if self.is_lossless:
            return "lossless"
        share = f" ({100 * self.lossless_share:.1f} % of the pixels lossless)"
        return f"quality {self.quality:g}{share if self.lossless_share else ''}"

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a plain dict, for JSON."""
        return dataclasses.asdict(self)


def info(source: bytes | str | Path) -> FileInfo:
    """Return the facts of a file, given its bytes or path; payloads are not decoded.

    Raises:
        FormatError: the bytes are not a valid file.
        CodecError: the path cannot be read.
    """
    try:
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
    except OSError as error:
        raise CodecError(f"cannot read {source!s}: {error.strerror}") from error
    header = unpack_header(data, size_limit=MAX_SIDE**2)  # nothing of this size is allocated
    box_bytes = {"header": HEADER_BYTES}
    for kind, size in box_sizes(data, header):
        box_bytes[kind] = box_bytes.get(kind, 0) + size
    lossless, grid = lossless_pixels(data, header), header.grid.at(1)
    whole = [number for number, count in lossless.items() if count == grid.tile_at(number).area]
    pixels = header.width * header.height
    return FileInfo(
        width=header.width,
        height=header.height,
        mode=header.mode.name,
        quality=header.quality,
        model=model_name(header.digest),
        digest=header.digest.hex(),
        num_tiles=len(grid),
        num_lossless_tiles=len(whole),
        lossless_share=sum(lossless.values()) / pixels,
        num_bytes=len(data),
        bpp=8 * len(data) / pixels,
        box_bytes=box_bytes,
    )
