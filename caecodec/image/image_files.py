"""Image files: reading any that Pillow reads."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from PIL import Image, PngImagePlugin, UnidentifiedImageError

from caecodec.errors import CodecError, ImageError, first_line
from caecodec.format.boxes import MAX_METADATA
from caecodec.format.constants import SIZE_LIMIT
from caecodec.format.container import check_size
from caecodec.image.libtiff import damage_raised
from caecodec.image.metadata import metadata_of
from caecodec.image.picture import check_kind
from caecodec.image.plugins import (
    PREFIX_LENGTH,
    MissingPluginError,
    load_plugin_for,
    plugin_suffixes,
)

_NOT_RASTER = {
    "EPS",  # starts Ghostscript
    "IPTC",  # opens what it holds as any format, EPS included
    *("WMF", "EMF", "BUFR", "GRIB", "HDF5", "MPEG"),  # vector graphics, stubs
    *("PDF", "PALM"),  # Pillow only writes them
}
_PILLOW_LIMIT = threading.RLock()


def open_image(source: Path | BinaryIO, name: str, *, size_limit: int = SIZE_LIMIT) -> Image.Image:
    """Open and decode an image file; `info` has all of its metadata that a `.cae` file keeps.

    Raises:
        CodecError: as `read_image`.
    """
    return read_image(source, name, size_limit=size_limit)[0]


def read_image(
    source: Path | BinaryIO, name: str, *, size_limit: int = SIZE_LIMIT
) -> tuple[Image.Image, tuple[str, ...]]:
    """Open and decode an image file, as `open_image`; also name what no `.cae` file keeps of it.

    Raises:
        ImageError: it does not exist, is not an image, is damaged, or is of a refused kind.
        LimitExceededError: more pixels than `size_limit`.
    """
    try:
        with damage_raised():
            try:
                return _read(source, size_limit)
            except ValueError as error:
                if "MAX_TEXT" not in str(error):
                    raise
            with long_text():
                return _read(source, size_limit)
    except CodecError:
        raise
    except FileNotFoundError as error:
        raise ImageError(f"no file {name}") from error
    except MissingPluginError as error:
        raise ImageError(f"{name} is {error}") from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{name} is not an image that Pillow can read") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name} is too large: {error}") from error
    except Exception as error:  # on damage, Pillow's parsers raise anything
        raise ImageError(f"cannot read {name}: {first_line(error)}") from error


def _read(source: Path | BinaryIO, size_limit: int) -> tuple[Image.Image, tuple[str, ...]]:
    with open_up_to(size_limit, source) as image:
        check_size(image.width, image.height, size_limit)
        check_kind(image)
        metadata = metadata_of(image)  # much of it is out of reach once the pixels are loaded
        image.load()
        image.info.update(metadata.kept)
        return image, metadata.left


def open_raster(source: Path | BinaryIO) -> Image.Image:
    """Open an image as any raster format that Pillow reads, with a plugin if it takes one.

    A file can be of any format whatever its name, and to draw PostScript Pillow starts a program.

    Raises:
        UnidentifiedImageError: it is of none of them.
        MissingPluginError: it is of one whose plugin is not installed.
    """
    Image.preinit()  # the common formats; all of them take 45 ms to load
    try:
        return Image.open(source, formats=_rasters())
    except UnidentifiedImageError:
        Image.init()
        load_plugin_for(_prefix(source))
        return Image.open(source, formats=_rasters())


def image_suffixes() -> frozenset[str]:
    """Return the suffixes of the files in a folder that count as images: of all that is read."""
    formats = Image.registered_extensions()  # loads all of Pillow's
    rasters = {suffix for suffix, name in formats.items() if name not in _NOT_RASTER}
    return plugin_suffixes().union(rasters) - {".cae"}


@contextlib.contextmanager
def long_text() -> Iterator[None]:
    """Let Pillow read profiles and text of a PNG file as long as metadata may be: globals, too."""
    with _PILLOW_LIMIT:
        before = PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY
        PngImagePlugin.MAX_TEXT_CHUNK = MAX_METADATA
        PngImagePlugin.MAX_TEXT_MEMORY = 4 * MAX_METADATA
        try:
            yield
        finally:
            PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY = before


def _prefix(source: Path | BinaryIO) -> bytes:
    if isinstance(source, Path):
        with source.open("rb") as file:
            return file.read(PREFIX_LENGTH)
    source.seek(0)
    return source.read(PREFIX_LENGTH)


def _rasters() -> list[str]:
    known = list(Image.OPEN)  # at once: another thread may register a plugin
    return [name for name in known if name not in _NOT_RASTER]


def open_up_to(size_limit: int, source: Path | BinaryIO) -> Image.Image:
    """Open an image, even beyond Pillow's own limit: a global, so one thread at a time."""
    if size_limit <= SIZE_LIMIT:
        return open_raster(source)
    with _PILLOW_LIMIT:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, size_limit
        try:
            return open_raster(source)
        finally:
            Image.MAX_IMAGE_PIXELS = before
