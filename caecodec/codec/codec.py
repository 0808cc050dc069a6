"""Image <-> bytes for one model; the work is in `encoder` and `decoder`."""

from __future__ import annotations

import copy
import functools
import itertools
import threading
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from caecodec.codec.decoder import Decompression
from caecodec.codec.encoder import Compression, EncoderSetup
from caecodec.codec.forks import use_one_thread_if_forked
from caecodec.codec.memory import keep_freed
from caecodec.codec.search import TUNINGS, SymbolSearch
from caecodec.codec.tensors import flat
from caecodec.config import (
    DEFAULT_EFFORT,
    DEFAULT_QUALITY,
    DEFAULT_TUNE,
    REDUCTIONS,
    Progress,
)
from caecodec.errors import ConfigError, FormatError, UnknownModelError
from caecodec.format.constants import SIZE_LIMIT, TILE_SIZES
from caecodec.format.container import Container, Header, unpack, unpack_header
from caecodec.format.entropy_coder import EntropyCoder
from caecodec.format.grid import Region
from caecodec.format.salvage import salvage
from caecodec.format.tables import IntArray
from caecodec.image.alpha import decode_alpha, with_alpha
from caecodec.image.metrics import MAX_LEVEL
from caecodec.image.picture import ImageLike, Pixels
from caecodec.nn.architectures import build_model
from caecodec.nn.distortions import REFINED_BY
from caecodec.nn.inference import FrozenModel
from caecodec.weights import model_name
from caecodec.weights.storage import Weights, find_weights

Crop = tuple[int, int, int, int]
"""x, y, width and height of a part of an image, in pixels."""

KEPT_BYTES = 2**26
"""Memory that stays with the process between layers and images."""
TILE_SIZE = 64
"""Side of a tile in units of 16 pixels: 1024 pixels."""


class Codec:
    """Compresses and decompresses with one model, kept warm between calls."""

    def __init__(
        self,
        model: str | Path | Weights = DEFAULT_TUNE,
        *,
        tile_size: int = TILE_SIZE,
        size_limit: int = SIZE_LIMIT,
        head_dtype: torch.dtype = torch.float64,
    ) -> None:
        """Load a shipped model by name, or a weights file.

        Args:
            model: name, path to a .safetensors file, or loaded weights.
            tile_size: side of the tiles that `compress` writes, in units of 16 pixels.
            size_limit: pixels of the largest image that is read or written.
            head_dtype: float64 or int64, in which the scale head computes; the results are equal.

        Raises:
            ModelError: no such model, or a weights file that is not valid.
            ConfigError: a tile size that the format does not have.
        """
        use_one_thread_if_forked()
        weights = model if isinstance(model, Weights) else find_weights(model)
        keep_freed(KEPT_BYTES)
        self.weights = weights
        self.digest = weights.digest
        self.tables = weights.tables()
        if tile_size not in TILE_SIZES:
            raise ConfigError(f"tile_size is {tile_size}, expected one of {TILE_SIZES}")
        self._coder = EntropyCoder(self.tables)
        self.model = build_model(weights.config, weights.tensors, head_dtype=head_dtype)
        self.size_limit = size_limit
        trained_for = str(weights.training.get("distortion"))
        if trained_for not in REFINED_BY:
            trained_for = "mse"
        search = SymbolSearch(self.tables, self.model.num_y_tables, TUNINGS[trained_for])
        self._setup = EncoderSetup(
            self.model, self._coder, search, self.digest, tile_size, REFINED_BY[trained_for]
        )

    @functools.cached_property
    def trained_model(self) -> FrozenModel:
        """The model with every layer as it was trained; `model` is folded, for speed."""
        return build_model(self.weights.config, self.weights.tensors, folded=False)

    def compress(
        self,
        image: ImageLike,
        *,
        quality: float | None = None,
        lossless: bool = False,
        effort: int = DEFAULT_EFFORT,
        on_progress: Progress | None = None,
    ) -> bytes:
        """Return the bytes of a `.cae` file.

        Args:
            image: PIL image of mode 1, L, LA, P, RGB or RGBA, or uint8 array (H, W), (H, W, 3),
                (H, W, 4). Alpha and metadata are kept without loss.
            quality: 0..100, kept to 0.01; size and PSNR rise with it. 50 by default.
            lossless: instead of a quality, keep every level, those under transparent pixels too.
            effort: 1, 3, 5, 7 or 9; more time for fewer bits. Decoding takes the same, and what is
                lossless is the same.
            on_progress: called with the part that is done, 0 to 1.

        Raises:
            ImageError: the image is of a kind that is refused.
            LimitExceededError: more pixels than the size limit.
            ConfigError: quality or effort out of range, or a quality of what shall be lossless.
        """
        if lossless and quality is not None:
            raise ConfigError("quality and lossless exclude each other: give one of them")
        compression = self.start(image)
        if lossless:
            return compression.compress_losslessly(on_progress)
        chosen = DEFAULT_QUALITY if quality is None else quality
        return compression.compress(chosen, effort=effort, on_progress=on_progress)

    def start(self, image: ImageLike, *, keep_stems: bool = False) -> Compression:
        """Return an image on its way to files of one or, with `keep_stems`, several qualities."""
        use_one_thread_if_forked()
        return Compression(self._setup, image, size_limit=self.size_limit, keep_stems=keep_stems)

    @torch.inference_mode()
    def decompress(
        self,
        data: bytes,
        *,
        crop: Crop | None = None,
        scale: float = 1,
        on_progress: Progress | None = None,
    ) -> Image.Image:
        """Return the image of a `.cae` file, its metadata in `info`.

        Args:
            data: the whole file.
            crop: (x, y, width, height) in pixels, for a part of the image alone; only the tiles
                that it needs are decoded.
            scale: 1, 1/2, 1/4 or 1/8 of the size each way, each pixel the mean of those it stands
                for; the image at full size is never in memory.
            on_progress: called with the part that is done, 0 to 1.

        Raises:
            FormatError: the bytes are not a valid file; the message names the offset.
            LimitExceededError: more pixels than the size limit.
            UnknownModelError: the file was made with another model.
            ConfigError: the crop is not inside the image, or another scale.
        """
        container = self._unpack(data)
        header = container.header
        window = _window(crop, header)
        reductions = {1 / reduction: reduction for reduction in REDUCTIONS}
        if scale not in reductions:
            raise ConfigError(f"scale is {scale}, expected one of 1, 1/2, 1/4, 1/8")
        alpha = None
        if container.alpha is not None:
            alpha = decode_alpha(container.alpha, header.width, header.height)
        decompression = self._start_decoding(container)
        if crop is None:
            decompression.check_unneeded_symbols()
        return _assemble(decompression, window, alpha, reductions[scale], on_progress)

    @torch.inference_mode()
    def salvage(self, data: bytes) -> tuple[Image.Image, list[str]]:
        """Return what is intact of a damaged file, and what is not.

        Lost tiles are mid-gray, and pixels next to them may be off; lost alpha is opaque.

        Returns:
            The image, and a line for each loss; none for a whole file.

        Raises:
            FormatError: the header is damaged, or a newer version made the file.
            UnknownModelError: the file was made with another model.
        """
        remains = salvage(data, size_limit=self.size_limit)
        container, lost = remains.container, dict(remains.lost_tiles)
        header, notes = container.header, list(remains.notes)
        self._check_model(header)
        alpha = None
        if header.mode.has_alpha:
            alpha = np.full((header.height, header.width), MAX_LEVEL, dtype=np.uint8)
        if container.alpha is not None:
            try:
                alpha = decode_alpha(container.alpha, header.width, header.height)
            except FormatError as error:
                notes.append(f"{error}: the image is opaque")
        trial = self._start_decoding(container)
        for number in set(range(len(container.tiles))) - set(lost):
            try:
                trial.check_tile(number)
            except FormatError as error:
                lost[number] = str(error).removeprefix(f"tile {number}: ")
        decompression = self._start_decoding(container, lost=frozenset(lost))
        image = _assemble(decompression, _window(None, header), alpha)
        return image, [f"tile {number}: {lost[number]}" for number in sorted(lost)] + notes

    @torch.inference_mode()
    def file_symbols(self, data: bytes) -> list[tuple[IntArray, IntArray]]:
        """Return (symbols, table indexes), z before y, of every tile of a file; no pixels are made.

        Raises:
            FormatError, UnknownModelError: as `decompress`.
        """
        container = self._unpack(data)
        decompression = self._start_decoding(container)
        model = self.model.at(container.header.quality_units)
        sections = []
        for number in range(len(container.tiles)):
            z, y, indexes = decompression.symbols(number)
            z_indexes = model.hyper_indexes(z.shape)
            sections += [(flat(z), flat(z_indexes)), (flat(y), flat(indexes))]
        return sections

    def _start_decoding(
        self, container: Container, lost: frozenset[int] = frozenset()
    ) -> Decompression:
        use_one_thread_if_forked()
        return Decompression(self.model, self._coder, container, lost)

    def _unpack(self, data: bytes) -> Container:
        container = unpack(data, size_limit=self.size_limit)
        self._check_model(container.header)
        return container

    def _check_model(self, header: Header) -> None:
        digest = header.digest
        if digest != self.digest:
            raise UnknownModelError(
                f"the file was made with model {digest.hex()}, this is {self.digest.hex()}: "
                "give its weights file"
            )
        if self.model.is_gray and not header.mode.is_gray:
            raise FormatError(
                f"colour mode {header.mode.name}, expected L or LA: "
                "the model of this file is for grayscale images"
            )


def shared_codec(model: str | Path = DEFAULT_TUNE, *, size_limit: int = SIZE_LIMIT) -> Codec:
    """Return the codec of a model, loaded once per process."""
    with _LOADING:
        codec = _loaded(model)
    if size_limit != codec.size_limit:
        codec = copy.copy(codec)
        codec.size_limit = size_limit
    return codec


_LOADING = threading.Lock()
"""Threads that ask for a model at once wait for one of them to load it."""


@functools.cache
def _loaded(model: str | Path) -> Codec:
    return Codec(model)


def codec_for(data: bytes, *, size_limit: int = SIZE_LIMIT) -> Codec:
    """Return the codec of the shipped model that a file names.

    Raises:
        FormatError: the header is not valid.
        LimitExceededError: more pixels than `size_limit`.
        UnknownModelError: no shipped model made this file.
    """
    digest = unpack_header(data, size_limit=size_limit).digest
    name = model_name(digest)
    if name is None:
        raise UnknownModelError(
            f"the file was made with model {digest.hex()}, which is not shipped: "
            "give its weights file"
        )
    return shared_codec(name, size_limit=size_limit)


def _assemble(
    decompression: Decompression,
    window: Region,
    alpha: Pixels | None,
    reduction: int = 1,
    on_progress: Progress | None = None,
) -> Image.Image:
    """Put an image together from the parts of a window and the whole image's alpha."""
    mode, metadata = decompression.mode, decompression.metadata
    lines = decompression.lines(window, on_progress)
    first = next(lines)  # what cannot be decoded takes no memory for the whole image
    image = Image.new(mode.name, (-(-window.width // reduction), -(-window.height // reduction)))
    for part, color in itertools.chain([first], lines):
        piece = with_alpha(color, None if alpha is None else alpha[part.rows, part.columns])
        corner = (part.left - window.left) // reduction, (part.top - window.top) // reduction
        image.paste(piece if reduction == 1 else piece.reduce(reduction), corner)
    image.info.update(metadata)
    return image


def _window(crop: Crop | None, header: Header) -> Region:
    """Return the pixels that a crop names, or all of them."""
    if crop is None:
        return Region(0, 0, header.height, header.width)
    x, y, width, height = crop
    whole = Region(0, 0, header.height, header.width)
    window = Region(y, x, height, width)
    if width < 1 or height < 1 or window.common(whole) != window:
        raise ConfigError(
            f"crop {x},{y},{width},{height} is not inside the image, "
            f"expected X,Y,W,H within {header.width} x {header.height} pixels"
        )
    return window
