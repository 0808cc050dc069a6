"""What must hold for any bytes, shared by the tests and the fuzz targets."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from mutators import stated
from PIL import Image

from caecodec import inspection
from caecodec.codec.codec import Codec
from caecodec.codec.tensors import flat, symbols_crc
from caecodec.errors import CodecError, ModelError
from caecodec.format.container import Container, Header, Tile, pack, read_front, unpack
from caecodec.format.entropy_coder import EntropyCoder
from caecodec.format.tables import IntArray
from caecodec.image.lossless import mask_of, pixels_of
from caecodec.image.picture import Pixels
from caecodec.weights.storage import load_weights

Result = TypeVar("Result")


def attempt(work: Callable[[], Result], refusal: type[CodecError] = CodecError) -> Result | None:
    """Return a result, or None where it ends in a refusal of one line."""
    try:
        return work()
    except refusal as error:
        message = str(error)
        assert message
        assert message.isprintable(), message
        return None


def is_same(one: Image.Image, two: Image.Image) -> bool:
    """Whether two decoded files agree in mode, pixels and metadata."""
    pixels = np.array(one), np.array(two)
    return (one.mode, one.info) == (two.mode, two.info) and np.array_equal(*pixels)


def check_file(codec: Codec, data: bytes) -> Image.Image | None:
    """Give any bytes to every reader: all end in a CodecError or in a right result.

    Returns:
        The decoded image, or None for a file that is refused.
    """
    facts = attempt(lambda: inspection.info(data))
    front = attempt(lambda: read_front(io.BytesIO(data)))
    container = attempt(lambda: unpack(data))
    salvaged = attempt(lambda: codec.salvage(data))
    symbols = attempt(lambda: codec.file_symbols(data))
    image = attempt(lambda: codec.decompress(data))
    if facts:
        assert (facts.mode, (facts.width, facts.height)) == stated(data)
        assert sum(facts.box_bytes.values()) == len(data)
    if salvaged:
        assert (salvaged[0].mode, salvaged[0].size) == stated(data)
    if image:
        assert (image.mode, image.size) == stated(data)
        assert facts
        assert symbols
        assert container
        assert front == (container.header, container.metadata)
        assert salvaged
        assert salvaged[1] == []
        assert is_same(salvaged[0], image)
        check_lossless(container, np.array(image))
    return image


def check_lossless(container: Container, levels: Pixels) -> None:
    """Check that an image (H, W) or (H, W, channels) has the lossless blocks of its file."""
    header, gray = container.header, container.header.mode.is_gray
    color = levels.reshape(header.height, header.width, -1)[..., : 1 if gray else 3]
    for number, (tile, region) in enumerate(zip(container.tiles, header.grid.at(1), strict=True)):
        if tile.lossless:
            stored = pixels_of(tile.lossless, header, number).reshape(
                region.height, region.width, -1
            )
            mask = mask_of(tile.lossless, region)
            assert np.array_equal(color[region.rows, region.columns][mask], stored[mask])


def check_payloads(codec: Codec, header: Header, payloads: list[bytes]) -> None:
    """Give any bytes to the payload parser, as they are and as the symbols that they hold.

    Args:
        codec: of the model that `header` names.
        header: of a mode without alpha.
        payloads: one per tile.
    """
    raw = Container(header, tuple(Tile(0, payload) for payload in payloads))
    check_file(codec, pack(raw))
    found = attempt(lambda: [_reencoded(codec, header, *tile) for tile in enumerate(payloads)])
    if found is None:
        return
    data = pack(Container(header, tuple(tile for tile, _ in found)))
    assert check_file(codec, data)
    symbols = [symbols for symbols, _ in codec.file_symbols(data)]
    expected = [symbols for _, sections in found for symbols in sections]
    assert all(np.array_equal(*pair) for pair in zip(symbols, expected, strict=True))


def _reencoded(
    codec: Codec, header: Header, number: int, payload: bytes
) -> tuple[Tile, tuple[IntArray, IntArray]]:
    """Return a right tile of the symbols that a payload starts with, whatever follows them."""
    model, coder = codec.model, EntropyCoder(codec.tables)
    at_quality = model.at(header.quality_units)
    region = header.grid.at(model.stride).tile_at(number)
    sides = region.height, region.width
    decoder = coder.decoder(payload)
    shape = model.hyper_shape(sides)
    z_indexes = flat(at_quality.hyper_indexes(shape))
    z = decoder.decode(z_indexes)
    indexes = flat(at_quality.scale_indexes(torch.from_numpy(z).long().reshape(shape), sides))
    y = decoder.decode(indexes)
    payload = coder.entropy_encode([(z, z_indexes), (y, indexes)])
    return Tile(symbols_crc(z, y), payload), (z, y)


def check_weights(path: Path) -> bool:
    """Load any file as weights: it ends in a ModelError, or in a model of finite values.

    Returns:
        Whether it loads.
    """
    codec = attempt(lambda: Codec(path), ModelError)
    if codec is None:
        return False
    weights = codec.weights
    assert codec.digest == load_weights(path).digest
    assert len(codec.tables) == weights.config.num_tables
    floats = [values for values in weights.tensors.values() if values.dtype.kind == "f"]
    assert all(np.isfinite(values).all() for values in floats)
    return True
