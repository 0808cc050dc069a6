import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image, ImageFile, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo
from PIL.TiffImagePlugin import AppendingTiffWriter

from caecodec.errors import FormatError, ImageError
from caecodec.format.constants import Mode
from caecodec.image.alpha import decode_alpha, encode_alpha, with_alpha
from caecodec.image.image_files import open_image, open_raster
from caecodec.image.picture import take_apart
from caecodec.image.saving import FORMATS

RGB = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)


def saved(image: Image.Image, suffix: str, **options: object) -> io.BytesIO:
    buffer = io.BytesIO()
    image.save(buffer, FORMATS[suffix], **options)
    buffer.seek(0)
    return buffer


def test_metadata_of_a_wrong_type_is_an_image_error() -> None:
    image = Image.new("RGB", (4, 4))
    image.info["icc_profile"] = 5
    with pytest.raises(ImageError, match="icc_profile is of type int, expected bytes"):
        take_apart(image)


def test_a_16_bit_png_is_refused_with_advice() -> None:
    gray = Image.fromarray(np.zeros((4, 4), np.uint16))
    with pytest.raises(ImageError, match="convert to 8 bits"):
        open_image(saved(gray, ".png"), "deep.png")


def test_a_16_bit_rgb_png_is_refused_though_pillow_would_cut_it() -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)
    rows = zlib.compress(2 * (b"\0" + bytes(12)))
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    with pytest.raises(ImageError, match="convert to 8 bits"):
        open_image(io.BytesIO(png), "deep.png")


def plain(image_format: str, side: int = 8) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side)).save(buffer, image_format)
    return buffer.getvalue()


def png16() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((16, 16), np.uint16)).save(buffer, "PNG")
    return buffer.getvalue()


def ico16() -> bytes:
    head = struct.pack("<HHH4BHHII", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(png16()), 22)
    return head + png16()


def avif_of(bits: int) -> bytes:
    """Return an AVIF file of 8 bits that says that it has more."""
    data = plain("AVIF").replace(
        b"pixi\0\0\0\0\3\x08\x08\x08", b"pixi\0\0\0\0\3" + 3 * bytes([bits])
    )
    place = data.index(b"av1C") + 6
    flags = data[place] | (0x60 if bits == 12 else 0x40)
    return data[:place] + bytes([flags]) + data[place + 1 :]


def jp2_of(bits: int, **options: object) -> bytes:
    """Return a JPEG 2000 file of 8 bits whose codestream says that it has more."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG2000", **options)
    data = buffer.getvalue()
    place = data.index(b"\xff\x4f\xff\x51") + 4 + 38
    return data[:place] + bytes([bits - 1]) + data[place + 1 :]


def tiff16() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (2, 2)).save(buffer, "TIFF", tiffinfo={258: (16, 16, 16)})
    data = buffer.getvalue()
    return data.replace(struct.pack("<3H", 8, 8, 8), struct.pack("<3H", 16, 16, 16))


DDS_10 = (
    b"DDS " + struct.pack("<7I44x", 124, 0x1007, 2, 2, 8, 0, 0)
    + struct.pack("<II4s5I", 32, 0x41, bytes(4), 32, 0x3FF00000, 0xFFC00, 0x3FF, 0xC0000000)
    + bytes(20) + bytes(16)
)  # fmt: skip
SGI_16 = struct.pack(">HBBHHHH", 474, 0, 2, 3, 2, 2, 3).ljust(512, b"\0") + bytes(24)


@pytest.mark.parametrize(
    ("data", "bits"),
    [
        (b"P6 2 2 1023\n" + bytes(24), 10),
        (b"P6 1 1 65535\n" + bytes(6), 16),
        (b"P3 1 1 4095\n1 2 3\n", 12),
        (avif_of(10), 10),
        (avif_of(12), 12),
        (jp2_of(16), 16),
        (jp2_of(12, no_jp2=True), 12),
        (tiff16(), 16),
        (ico16(), 16),
        (DDS_10, 10),
        (SGI_16, 16),
    ],
)
def test_more_than_8_bits_are_refused_with_their_number_where_pillow_would_cut_them(
    data: bytes, bits: int
) -> None:
    for read in (lambda file: open_image(file, "deep"), lambda file: take_apart(Image.open(file))):
        with pytest.raises(ImageError, match=f"^{bits} bits per channel .* convert to 8 bits"):
            read(io.BytesIO(data))


@pytest.mark.parametrize(
    "image_format", [*sorted({*FORMATS.values()}), "JPEG2000", "ICO", "ICNS", "SGI", "TGA", "DDS"]
)
def test_8_bits_per_channel_are_read_from_every_format(image_format: str) -> None:
    data = plain(image_format, 64)
    assert take_apart(open_image(io.BytesIO(data), "x")).color.shape[2:] == (3,)


def test_a_text_called_bit_depth_in_a_png_says_nothing() -> None:
    text = PngInfo()
    text.add_text("bit_depth", "16")
    assert open_image(saved(Image.fromarray(RGB), ".png", pnginfo=text), "x").mode == "RGB"


@pytest.mark.parametrize("masks", [(0xF800, 0x7E0, 0x1F), (0x7C00, 0x3E0, 0x1F)])
def test_a_bmp_of_16_bits_per_pixel_is_accepted(masks: tuple[int, int, int]) -> None:
    info = struct.pack("<IiiHHIIiiII", 40, 2, 2, 1, 16, 3, 8, 0, 0, 0, 0) + struct.pack(
        "<3I", *masks
    )
    data = b"BM" + struct.pack("<IHHI", 14 + len(info) + 8, 0, 0, 14 + len(info)) + info
    image = open_image(io.BytesIO(data + b"\xff" * 8), "photo.bmp")
    assert (take_apart(image).color == 255).all()


def test_cmyk_is_refused_with_advice() -> None:
    with pytest.raises(ImageError, match="convert to RGB"):
        open_image(saved(Image.new("CMYK", (4, 4)), ".jpg"), "print.jpg")


def test_an_animation_is_refused_with_advice() -> None:
    buffer = io.BytesIO()
    frames = [Image.fromarray(np.roll(RGB, shift, 1)) for shift in range(3)]
    frames[0].save(buffer, "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    buffer.seek(0)
    with pytest.raises(ImageError, match="extract the frame"):
        open_image(buffer, "moving.webp")


@pytest.mark.parametrize("data", [b"", b"no image at all", b"\x89PNG\r\n\x1a\n rest"])
def test_bytes_that_are_no_image_are_one_clear_line(data: bytes) -> None:
    with pytest.raises(ImageError) as caught:
        open_image(io.BytesIO(data), "broken.png")
    assert "broken.png" in str(caught.value)
    assert "\n" not in str(caught.value)


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
PLACEABLE_WMF = (
    b"\xd7\xcd\xc6\x9a"
    + struct.pack("<HhhhhHIH", 0, 0, 0, 9, 9, 72, 0, 0)
    + (b"\1\0\t\0" + bytes(40))
)


def iptc(content: bytes) -> bytes:
    """Return a picture of 9 x 9 pixels, whose content Pillow opens as any format."""
    fields = {(3, 60): b"\3\1", (3, 20): b"\0\t", (3, 30): b"\0\t"}
    fields |= {(3, 120): b"\5", (8, 10): content}
    return b"".join(
        struct.pack(">BBBH", 0x1C, *tag, len(value)) + value for tag, value in fields.items()
    )


@pytest.mark.parametrize("read", [open_image, lambda file, _: open_raster(file).load()])
@pytest.mark.parametrize("data", [POSTSCRIPT, PLACEABLE_WMF, b"GRIB\0\0\0\1", iptc(POSTSCRIPT)])
def test_no_program_is_started_for_vector_graphics_that_are_called_photo_png(
    read: Callable[[io.BytesIO, str], object], data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[object] = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_: started.append(1))
    with pytest.raises((ImageError, UnidentifiedImageError), match=r"not an image|cannot identify"):
        read(io.BytesIO(data), "photo.png")
    assert not started


def test_a_format_that_a_plugin_registered_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    class Tiny(ImageFile.ImageFile):
        format = "TINY"

        def _open(self) -> None:
            self._size, self._mode = (1, 1), "L"
            self.tile = [ImageFile._Tile("raw", (0, 0, 1, 1), 4, "L")]

    monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))
    monkeypatch.setattr(Image, "ID", list(Image.ID))
    Image.register_open("TINY", Tiny, lambda prefix: prefix.startswith(b"tiny"))
    assert open_image(io.BytesIO(b"tiny\7"), "x.tiny").getpixel((0, 0)) == 7


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".avif", ".tiff", ".bmp", ".ppm"])
def test_a_truncated_image_is_refused(suffix: str) -> None:
    whole = saved(Image.fromarray(np.tile(RGB, (20, 20, 1))), suffix).getvalue()
    with pytest.raises(ImageError):
        open_image(io.BytesIO(whole[: len(whole) // 2]), "half")


@pytest.mark.parametrize("mode", ["I", "F", "CMYK", "YCbCr", "LAB", "HSV"])
def test_other_modes_are_refused_and_never_converted(mode: str) -> None:
    with pytest.raises(ImageError, match="convert"):
        take_apart(Image.new(mode, (3, 3)))


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("1", Mode.L), ("L", Mode.L), ("LA", Mode.LA), ("RGB", Mode.RGB), ("RGBA", Mode.RGBA)],
)
def test_plain_modes_keep_their_channels(mode: str, expected: Mode) -> None:
    image = Image.fromarray(RGB).convert(mode)
    picture = take_apart(image)
    assert picture.mode is expected
    assert (picture.alpha is not None) == expected.has_alpha
    assert np.array_equal(
        np.array(with_alpha(picture.color, picture.alpha)), np.array(image.convert(expected.name))
    )


def test_a_palette_with_transparency_becomes_rgba() -> None:
    image = Image.fromarray(RGB).convert("P", palette=Image.Palette.ADAPTIVE)
    assert take_apart(image).mode is Mode.RGB
    image.info["transparency"] = 0
    assert take_apart(image).mode is Mode.RGBA


def test_a_palette_of_colours_with_alpha_keeps_it() -> None:
    head = struct.pack("<BBBHHBHHHHBB", 0, 1, 1, 0, 2, 32, 0, 0, 2, 1, 8, 0x20)
    colours = bytes([10, 20, 30, 40]) + bytes([50, 60, 70, 255])  # blue, green, red, alpha
    picture = take_apart(open_image(io.BytesIO(head + colours + b"\0\1"), "icon.tga"))
    assert picture.mode is Mode.RGBA
    assert picture.color.tolist() == [[[30, 20, 10], [70, 60, 50]]]
    assert picture.alpha is not None
    assert picture.alpha.tolist() == [[40, 255]]


def tiff_of(*kinds: int) -> io.BytesIO:
    """Return a TIFF file of pages with these NewSubfileTypes, the first in colour."""
    pages = [Image.fromarray(RGB if number == 0 else RGB[::2, ::2]) for number in range(len(kinds))]
    buffer = io.BytesIO()
    with AppendingTiffWriter(buffer) as writer:
        for page, kind in zip(pages, kinds, strict=True):
            page.save(writer, "TIFF", tiffinfo={254: kind})
            writer.newFrame()
    return io.BytesIO(buffer.getvalue())


def test_pages_of_a_tiff_that_are_reduced_copies_of_the_first_do_not_matter() -> None:
    image = open_image(tiff_of(0, 1, 1), "pyramid.tiff")
    for source in (image, image, Image.open(tiff_of(0, 1, 1))):
        assert np.array_equal(take_apart(source).color, RGB)


@pytest.mark.parametrize("kinds", [(1,), (1, 0), (1, 1)])
def test_a_tiff_that_starts_with_a_thumbnail_as_raw_photographs_do_is_refused(
    kinds: tuple[int, ...],
) -> None:
    with pytest.raises(ImageError, match="raw photograph: develop it"):
        open_image(tiff_of(*kinds), "photo.dng")


@pytest.mark.parametrize("kinds", [(0, 0), (0, 1, 0), (0, 2)])
def test_other_pages_of_a_tiff_are_refused(kinds: tuple[int, ...]) -> None:
    with pytest.raises(ImageError, match="multi-page"):
        open_image(tiff_of(*kinds), "pages.tiff")


def test_a_transparent_colour_becomes_alpha() -> None:
    image = Image.fromarray(RGB)
    image.info["transparency"] = tuple(int(value) for value in RGB[0, 0])
    picture = take_apart(image)
    assert picture.mode is Mode.RGBA
    assert picture.alpha is not None
    assert picture.alpha[0, 0] == 0


def test_exif_is_kept_without_the_jpeg_prefix() -> None:
    image = Image.fromarray(RGB)
    image.info["exif"] = b"Exif\0\0II*\0"
    assert take_apart(image).metadata["exif"] == b"II*\0"


@pytest.mark.parametrize("kind", ["constant", "ramp", "noise"])
def test_alpha_planes_round_trip(kind: str) -> None:
    shape = (31, 47)
    plane = {
        "constant": np.full(shape, 200, np.uint8),
        "ramp": np.linspace(0, 255, 31 * 47).reshape(shape).astype(np.uint8),
        "noise": np.random.default_rng(2).integers(0, 256, shape, dtype=np.uint8),
    }[kind]
    assert np.array_equal(decode_alpha(encode_alpha(plane), 47, 31), plane)


@pytest.mark.parametrize("data", [b"", b"no image", encode_alpha(np.zeros((3, 3), np.uint8))])
def test_a_bad_alpha_plane_is_a_format_error(data: bytes) -> None:
    with pytest.raises(FormatError):
        decode_alpha(data, 4, 4)
