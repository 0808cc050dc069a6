"""caecodec: a learned image codec that works like a real image format.

    data = caecodec.compress(image, quality=60)    # PIL image or uint8 array -> bytes
    image = caecodec.decompress(data)              # bytes -> PIL image

`import caecodec` loads no torch; the first call does.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caecodec.config import DEFAULT_EFFORT, DEFAULT_TUNE
from caecodec.errors import (
    BadMagicError,
    ChecksumMismatchError,
    CodecError,
    ConfigError,
    DesyncError,
    FileError,
    FormatError,
    ImageError,
    LimitExceededError,
    ModelError,
    SymbolRangeError,
    TargetError,
    TruncatedError,
    UnknownModelError,
    UnsupportedVersionError,
    UrlError,
)
from caecodec.files.replacing import replace_file
from caecodec.inspection import FileInfo, info
from caecodec.weights import choose_model

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL import Image

    from caecodec.codec.codec import Codec
    from caecodec.codec.feature_maps import FeatureArray
    from caecodec.codec.targets import Target
    from caecodec.image.picture import ImageLike

__version__ = "1.0.0.dev0"
__all__ = [
    "BadMagicError",
    "ChecksumMismatchError",
    "Codec",
    "CodecError",
    "ConfigError",
    "DesyncError",
    "FileError",
    "FileInfo",
    "FormatError",
    "ImageError",
    "LimitExceededError",
    "ModelError",
    "SymbolRangeError",
    "Target",
    "TargetError",
    "TruncatedError",
    "UnknownModelError",
    "UnsupportedVersionError",
    "UrlError",
    "__version__",
    "compress",
    "decompress",
    "features",
    "imread",
    "imwrite",
    "info",
    "register_pillow_opener",
]


def compress(  # noqa: PLR0913 - options are parameters
    image: ImageLike,
    *,
    quality: float | None = None,
    target: Target | None = None,
    lossless: bool = False,
    effort: int = DEFAULT_EFFORT,
    tune: str | None = None,
    model: str | Path | None = None,
) -> bytes:
    """Return the bytes of a `.cae` file; see `Codec.compress` and `targets.compress_to`.

    Args:
        image: PIL image, or uint8 array (H, W), (H, W, 3) or (H, W, 4).
        quality: 0..100; 50 by default.
        target: a size or a fidelity instead of a quality, such as `Target(num_bytes=50_000)`.
        lossless: instead of either, keep every level, those under transparent pixels too.
        effort: 1, 3, 5, 7 or 9; more time for fewer bits, where these are not lossless.
        tune: what to optimise for: "visual" (the eye) or "psnr" (the default).
        model: name of a shipped model or path of a .safetensors file, instead of a tune; loaded
            once per process.

    Raises:
        ImageError: the image is of a refused kind.
        ConfigError: quality or effort out of range, no such tune, more than one of quality, target
            and lossless, or both a tune and a model.
        TargetError: no file is as small as the target.
        ModelError: no such model.
    """
    from caecodec.codec.codec import shared_codec  # noqa: PLC0415 - loads torch
    from caecodec.codec.targets import compress_to  # noqa: PLC0415 - loads numpy

    codec = shared_codec(choose_model(tune, model))
    if target is None:
        return codec.compress(image, quality=quality, lossless=lossless, effort=effort)
    if quality is not None or lossless:
        other = "quality" if quality is not None else "lossless"
        raise ConfigError(f"{other} and target exclude each other: give one of them")
    return compress_to(codec, image, target=target, effort=effort)


def decompress(
    data: bytes,
    *,
    crop: tuple[int, int, int, int] | None = None,
    scale: float = 1,
    model: str | Path | None = None,
) -> Image.Image:
    """Return the image of a `.cae` file; see `Codec.decompress`.

    Args:
        data: the whole file.
        crop: (x, y, width, height) in pixels of the only part to decode.
        scale: 1, 1/2, 1/4 or 1/8 of the size, each way.
        model: path of the weights, for a file not made by a shipped model.

    Raises:
        FormatError: the bytes are not a valid file.
        ModelError: the model that made the file is not available.
        ConfigError: the crop is not inside the image, or another scale.
    """
    from caecodec.codec.codec import codec_for, shared_codec  # noqa: PLC0415 - loads torch

    codec = codec_for(data) if model is None else shared_codec(model)
    return codec.decompress(data, crop=crop, scale=scale)


def imread(path: str | Path) -> npt.NDArray[np.uint8]:
    """Return the pixels of a `.cae` file: uint8 (H, W), (H, W, 2), (H, W, 3) or (H, W, 4).

    Args:
        path: path of a file made by a shipped model.

    Raises:
        OSError: it cannot be read.
        FormatError, UnknownModelError: as `decompress`.
    """
    import numpy as np  # noqa: PLC0415 - `import caecodec` is light

    return np.array(decompress(Path(path).read_bytes()))


def imwrite(path: str | Path, image: ImageLike, **options: Any) -> None:
    """Write an image as a `.cae` file, replacing any existing file.

    Args:
        path: path of the file.
        image: as for `compress`.
        options: those of `compress`, such as `quality=60` or `lossless=True`.

    Raises:
        OSError: it cannot be written.
        ImageError, ConfigError: as `compress`.
    """
    data = compress(image, **options)
    replace_file(Path(path), lambda file: file.write(data))


def register_pillow_opener() -> None:
    """Let Pillow open and save `.cae` files, as `import caecodec.CaeImagePlugin` does."""
    importlib.import_module("caecodec.CaeImagePlugin")


def features(
    image: ImageLike, *, layer: int | None = None, model: str | Path = DEFAULT_TUNE
) -> FeatureArray:
    """Return what one layer of the analysis transform gives for an image.

    Args:
        image: as `compress`.
        layer: counted from 1; the last by default. Classic: the encoder's stages, after pooling.
            Main: the patch convolution and the blocks at 1/8, then the layers at 1/16.
        model: name of a shipped model or path of a .safetensors file; loaded once per process.

    Returns:
        float32 (C, ceil(H / s), ceil(W / s)), for a layer of C channels and s pixels a position;
        taken at quality 50.

    Raises:
        ImageError: the image is of a refused kind.
        ConfigError: no such layer.
        ModelError: no such model.
    """
    from caecodec.codec.codec import shared_codec  # noqa: PLC0415 - loads torch
    from caecodec.codec.feature_maps import features_of  # noqa: PLC0415 - loads torch

    return features_of(shared_codec(model).trained_model, image, layer)


def __getattr__(name: str) -> Any:
    if name == "Codec":
        from caecodec.codec.codec import Codec  # noqa: PLC0415 - loads torch

        return Codec
    if name == "Target":
        from caecodec.codec.targets import Target  # noqa: PLC0415 - loads numpy

        return Target
    raise AttributeError(f"module 'caecodec' has no attribute {name!r}")
