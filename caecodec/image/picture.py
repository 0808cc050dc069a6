"""Which images are accepted, and what a file stores of them.

Nothing is converted silently: an image that cannot be stored as it is raises ImageError.
"""

from __future__ import annotations

import dataclasses
import weakref

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from caecodec.errors import ImageError, first_line
from caecodec.format.constants import MAX_SIDE, Mode
from caecodec.format.grid import Region
from caecodec.image.depth import channel_bits
from caecodec.image.metadata import metadata_of

Pixels = NDArray[np.uint8]
ImageLike = Image.Image | Pixels

_MAX_BITS = 8
_NEW_SUBFILE_TYPE = 254
_ONE_PICTURE: weakref.WeakValueDictionary[int, Image.Image] = weakref.WeakValueDictionary()
"""By id, the TIFF files found to hold one; their pages cannot be visited after loading."""
_PLAIN_MODES = {"1": "L", "L": "L", "LA": "LA", "RGB": "RGB", "RGBA": "RGBA"}


@dataclasses.dataclass(frozen=True)
class Picture:
    """An image ready for coding; its pixels are not copied until a part is requested.

    Attributes:
        mode: its channels.
        source: PIL image of this mode, or uint8 (H, W) or (H, W, channels).
        metadata: any of icc_profile, exif (without the JPEG prefix) and xmp.
    """

    mode: Mode
    source: ImageLike
    metadata: dict[str, bytes]

    @property
    def whole(self) -> Region:
        """The region of the whole image, in pixels."""
        if isinstance(self.source, Image.Image):
            return Region(0, 0, self.source.height, self.source.width)
        return Region(0, 0, *self.source.shape[:2])

    def part(self, window: Region) -> Pixels:
        """Return the colour of a window, cropped to the image: (h, w) for L, LA, else (h, w, 3)."""
        levels = self._levels(window.common(self.whole))
        if self.mode is Mode.LA:
            return levels[..., 0]
        return levels if self.mode is Mode.L else levels[..., :3]

    @property
    def color(self) -> Pixels:
        """The colour of the whole image."""
        return self.part(self.whole)

    @property
    def alpha(self) -> Pixels | None:
        """The alpha plane (H, W), if the mode has one."""
        if not self.mode.has_alpha:
            return None
        if isinstance(self.source, Image.Image):
            return np.asarray(self.source.getchannel("A"))
        return self.source[..., -1]

    def _levels(self, window: Region) -> Pixels:
        if isinstance(self.source, np.ndarray):
            return self.source[window.rows, window.columns]
        left, top = window.left, window.top
        return np.array(self.source.crop((left, top, left + window.width, top + window.height)))


def take_apart(image: ImageLike) -> Picture:
    """Split a PIL image or a uint8 array (H, W), (H, W, 3), (H, W, 4) into what a file stores.

    Raises:
        ImageError: a mode, shape or dtype that would need a silent conversion.
    """
    if isinstance(image, np.ndarray):
        return _from_array(image)
    if not isinstance(image, Image.Image):
        raise ImageError(f"a {type(image).__name__}, expected a PIL image or a uint8 array")
    check_kind(image)
    _check_sides(image.width, image.height)
    metadata = metadata_of(image).kept
    target = _target_mode(image)
    try:
        plain = image if image.mode == target else image.convert(target)  # no copy if it fits
    except ValueError as error:
        raise ImageError(f"the image is damaged: {first_line(error)}") from error
    return Picture(Mode[target], plain, metadata)


def check_kind(image: Image.Image) -> None:
    """Refuse an image that would need a silent conversion.

    Raises:
        ImageError: a raw photograph's thumbnail, several frames, more than 8 bits per channel, or
            another colour mode.
    """
    if image.format == "TIFF" and not image.tell() and _is_marked_reduced(image):
        raise ImageError(
            "the first page is a reduced copy of another one, as in a raw photograph: "
            "develop it with a raw converter and compress the result"
        )
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO" and not _has_one_picture(image):
        raise ImageError(
            "an animated or multi-page image is not supported: "
            "extract the frame you want and compress that"
        )
    if (bits := channel_bits(image)) > _MAX_BITS:
        raise ImageError(
            f"{bits} bits per channel are not supported: convert to 8 bits per channel first, "
            "for example by 'magick image.png -depth 8 out.png'"
        )
    if image.mode not in {*_PLAIN_MODES, "P", "PA"}:
        raise ImageError(f"colour mode {image.mode} is not supported: convert to RGB first")


def _has_one_picture(image: Image.Image) -> bool:
    """Whether all further pages of a TIFF file are the first one at reduced resolution."""
    if image.format != "TIFF" or image.tell():
        return False
    if _ONE_PICTURE.get(id(image)) is not image and getattr(image, "tile", None):
        info = image.info.copy()
        pages = range(getattr(image, "n_frames", 1))
        if [_is_reduced(image, page) for page in pages] == [page > 0 for page in pages]:
            _ONE_PICTURE[id(image)] = image
        image.seek(0)
        image.info = info
    return _ONE_PICTURE.get(id(image)) is image


def _is_reduced(image: Image.Image, page: int) -> bool:
    try:
        image.seek(page)
    except Exception:  # noqa: BLE001 - on damage, Pillow's parsers raise anything
        return page == 0
    return _is_marked_reduced(image)


def _is_marked_reduced(image: Image.Image) -> bool:
    kind = getattr(image, "tag_v2", {}).get(_NEW_SUBFILE_TYPE, 0)
    return isinstance(kind, int) and bool(kind & 1)


def _from_array(array: Pixels) -> Picture:
    if array.dtype != np.uint8:
        raise ImageError(f"an array of {array.dtype}, expected uint8: scale the values to 0..255")
    if array.ndim == 2:
        height, width = array.shape
        channels = 1
    elif array.ndim == 3 and array.shape[2] in (3, 4):
        height, width, channels = array.shape
    else:
        raise ImageError(
            f"an array of shape {array.shape}, expected (H, W), (H, W, 3) or (H, W, 4)"
        )
    _check_sides(width, height)
    return Picture(Mode(channels), array, {})


def _check_sides(width: int, height: int) -> None:
    if not 1 <= width <= MAX_SIDE or not 1 <= height <= MAX_SIDE:
        raise ImageError(f"{width} x {height} pixels, expected 1 to {MAX_SIDE} per side")


def _target_mode(image: Image.Image) -> str:
    """Return the plain mode that holds this image without loss."""
    if image.mode in {"P", "PA"}:
        return "RGBA" if image.has_transparency_data else "RGB"
    transparent = "transparency" in image.info
    mode = _PLAIN_MODES[image.mode]
    if transparent and mode in {"L", "RGB"}:
        return {"L": "LA", "RGB": "RGBA"}[mode]
    return mode
