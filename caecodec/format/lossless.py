"""Which blocks of a tile are stored losslessly, and the box that says so. FORMAT.md section 5.1."""

from __future__ import annotations

import dataclasses

from caecodec.errors import FormatError
from caecodec.format.grid import Region

MIN_BLOCK_LOG2 = 4


@dataclasses.dataclass(frozen=True)
class LosslessBlocks:
    """The content of a `PIXL` box.

    Attributes:
        block_log2: a block is 2**block_log2 pixels a side, cut at the tile's edge.
        mask: a bit per block of the tile in raster order, the most significant ones first.
        num_blocks: of the tile.
        image: a WebP file of the tile's size.
    """

    block_log2: int
    mask: bytes
    num_blocks: int
    image: bytes

    @property
    def num_lossless(self) -> int:
        """How many of the blocks are."""
        return int.from_bytes(self.mask, "big").bit_count()

    def num_pixels(self, tile: Region) -> int:
        """Return how many pixels of its tile, given in pixels, are in lossless blocks."""
        side = 2**self.block_log2
        rows, columns = block_shape(tile, self.block_log2)
        bits = int.from_bytes(self.mask, "big") >> (8 * len(self.mask) - self.num_blocks)
        flags = f"{bits:0{self.num_blocks}b}"
        total = 0
        for row in range(rows):
            line = flags[row * columns : (row + 1) * columns]
            cut = columns * side - tile.width if line.endswith("1") else 0
            height = min(side, tile.height - row * side)
            total += height * (line.count("1") * side - cut)
        return total

    def pack(self) -> bytes:
        """Return the content of the box."""
        return bytes([self.block_log2]) + self.mask + self.image


def unpack_blocks(content: bytes, tile: Region, side: int) -> LosslessBlocks:
    """Parse the content of a box; the image in it is not decoded.

    Args:
        content: of the box.
        tile: in pixels.
        side: of a tile that no edge cuts, in pixels.

    Raises:
        FormatError: a size of blocks, or a mask, that section 5.1 forbids.
    """
    block_log2 = content[0] if content else 0
    if not MIN_BLOCK_LOG2 <= block_log2 <= side.bit_length() - 1:
        raise FormatError(
            f"lossless blocks of 2**{block_log2} pixels, expected 2**{MIN_BLOCK_LOG2} to {side}"
        )
    rows, columns = block_shape(tile, block_log2)
    count = rows * columns
    length = -(-count // 8)
    mask, image = content[1 : 1 + length], content[1 + length :]
    bits = int.from_bytes(mask, "big")
    if len(mask) < length or not bits or bits & ((1 << 8 * length - count) - 1):
        raise FormatError(
            f"a mask {mask.hex()} of lossless blocks, expected {count} bits, not all of them 0, "
            "and zeros after them"
        )
    return LosslessBlocks(block_log2, mask, count, image)


def block_shape(tile: Region, block_log2: int) -> tuple[int, int]:
    """Return the rows and columns of blocks that a tile in pixels has."""
    side = 2**block_log2
    return -(-tile.height // side), -(-tile.width // side)
