"""`.cae` files in Pillow: importing this module registers the format.

Opening reads header and metadata; the first use of the pixels loads torch and decodes them.
"""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any

from PIL import Image, ImageFile

from caecodec.config import DEFAULT_EFFORT, largest_reduction
from caecodec.errors import CodecError, FormatError
from caecodec.format.boxes import METADATA_BOXES
from caecodec.format.constants import MAX_SIDE
from caecodec.format.container import MAGIC, read_front, unpack
from caecodec.image.metadata import as_bytes
from caecodec.weights import choose_model

if TYPE_CHECKING:
    from caecodec.codec.codec import Codec

FORMAT = "CAE"
MIME_TYPE = "image/x-cae"


class CaeImageFile(ImageFile.ImageFile):
    """A `.cae` file as Pillow sees it; `draft` and `thumbnail` decode a smaller image."""

    format = FORMAT
    format_description = "caecodec, a learned image codec"

    def _open(self) -> None:
        assert self.fp is not None  # noqa: S101 - for the type checker, as in Pillow
        try:  # Pillow's own rule on large images follows, not the codec's
            header, metadata = read_front(self.fp, size_limit=MAX_SIDE**2)
        except FormatError as error:
            raise SyntaxError(str(error)) from error  # Pillow's word for: not of this format
        self._size = header.width, header.height
        self._mode = header.mode.name
        self.info.update(metadata)
        self._reduction = 1
        self.tile = [ImageFile._Tile(FORMAT, (0, 0, *self._size))]  # noqa: SLF001 - its protocol

    def draft(
        self,
        mode: str | None,  # noqa: ARG002 - a file has one mode
        size: tuple[int, int] | None,
    ) -> tuple[str, tuple[int, int, float, float]] | None:
        """Decode at 1/2, 1/4 or 1/8 of the size, the smallest not below the requested one.

        Args:
            mode: ignored.
            size: (width, height) in pixels.
        """
        if size is None or not self.tile or self._reduction > 1:
            return None
        self._reduction = min(map(largest_reduction, self.size, size))
        width, height = self.size
        self._size = -(-width // self._reduction), -(-height // self._reduction)
        return self.mode, (0, 0, width / self._reduction, height / self._reduction)

    def verify(self) -> None:
        """Check framing and checksums of the whole file, without decoding; open it anew to load it.

        Raises:
            OSError: the file is damaged.
        """
        if self.fp is None:
            raise RuntimeError("verify must be called directly after open")
        self.fp.seek(0)
        try:
            unpack(self.fp.read(), size_limit=MAX_SIDE**2)
        except FormatError as error:
            raise OSError(f"broken {FORMAT} file: {error}") from error
        if self._exclusive_fp:
            self.fp.close()
        self.fp = None

    def load(self) -> Any:
        """Decode the pixels; with `ImageFile.LOAD_TRUNCATED_IMAGES`, those that are intact.

        Raises:
            OSError: the file is damaged, or was not made by a shipped model.
        """
        if self.tile and self.fp is not None:
            from caecodec.codec.codec import codec_for  # noqa: PLC0415 - loads torch

            self.fp.seek(0)
            data = self.fp.read()
            try:
                codec = codec_for(data, size_limit=MAX_SIDE**2)
                image = self._decoded(codec, data)
            except CodecError as error:
                raise OSError(f"cannot decode a {FORMAT} file: {error}") from error
            self.im = image.im
            self.tile = []
            if self._exclusive_fp and self._close_exclusive_fp_after_loading:
                self.fp.close()
            self.fp = None
        return Image.Image.load(self)

    def _decoded(self, codec: Codec, data: bytes) -> Image.Image:
        try:
            return codec.decompress(data, scale=1 / self._reduction)
        except FormatError:
            if not ImageFile.LOAD_TRUNCATED_IMAGES:
                raise
            intact, _ = codec.salvage(data)
            return intact.reduce(self._reduction) if self._reduction > 1 else intact


def _accept(prefix: bytes) -> bool:
    return prefix.startswith(MAGIC)


def _save(image: Image.Image, file: IO[bytes], filename: str | bytes) -> None:
    """Write an image. Options: quality, lossless, effort, tune; icc_profile, exif, xmp."""
    del filename
    from caecodec.codec.codec import shared_codec  # noqa: PLC0415 - loads torch

    options = getattr(image, "encoderinfo", {})
    given = [name for name in METADATA_BOXES if name in options]
    if given:
        image = image.copy()
        image.info.update({name: as_bytes(name, options[name]) for name in given})
    try:
        data = shared_codec(choose_model(options.get("tune"))).compress(
            image,
            quality=options.get("quality"),
            lossless=options.get("lossless", False),
            effort=options.get("effort", DEFAULT_EFFORT),
        )
    except CodecError as error:
        raise OSError(f"cannot write {FORMAT}: {error}") from error
    file.write(data)


Image.register_open(FORMAT, CaeImageFile, _accept)
Image.register_save(FORMAT, _save)
Image.register_extension(FORMAT, ".cae")
Image.register_mime(FORMAT, MIME_TYPE)
