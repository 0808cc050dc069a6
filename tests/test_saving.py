"""What `decompress` writes: the pixels always, and all metadata that the format can hold."""

from __future__ import annotations

import hashlib
import io
import json
import random
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from make_golden import TOY
from PIL import Image, ImageOps
from test_cli import MODEL, run

from caecodec.codec.codec import Codec
from caecodec.errors import ImageError
from caecodec.image.exif import dpi_of
from caecodec.image.image_files import open_image
from caecodec.image.picture import take_apart
from caecodec.image.saving import FORMATS, check_saved, save_image

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (12, 20, 3), dtype=np.uint8)
METADATA = {
    "icc_profile": b"a profile",
    "exif": b"II*\0\x08\0\0\0" + bytes(6),
    "xmp": b"<x:xmpmeta/>",
}
NAMES = ["exif", "icc_profile", "xmp"]
WITH_METADATA = ["PNG", "JPEG", "WEBP", "AVIF", "TIFF"]
LOSSLESS = {"PNG", "WEBP", "TIFF", "BMP", "PPM"}


def exif_of(byte_order: str = "<", **tags: object) -> bytes:
    """Return an EXIF with three further directories; `tags` are t271=... for tag 271."""
    exif = Image.Exif()
    exif.endian = byte_order
    for name, value in tags.items():
        exif[int(name[1:])] = value
    inner = exif.get_ifd(0x8769)
    inner |= {33434: 0.01, 36864: b"0231", 37500: b"a maker note", 0xA005: {1: "R98"}}
    exif.get_ifd(0x8825).update({1: "N", 2: (1.0, 2.0, 3.0)})
    return exif.tobytes().removeprefix(b"Exif\0\0")


STRUCTURE = {
    "t254": 1, "t256": 9999, "t257": 7, "t258": 16, "t259": 6, "t262": 0, "t266": 2, "t273": (5, 6),
    "t277": 1, "t278": 1, "t279": (9, 9), "t284": 2, "t317": 2, "t320": (1, 2, 3), "t322": 16,
    "t324": (1, 2), "t330": 8, "t338": 2, "t339": 3, "t513": 999, "t50706": b"\1\4\0\0",
}  # fmt: skip
CAMERA = {
    "t271": "A maker", "t272": "Model X", "t274": 1, "t282": 300.0, "t283": 300.0, "t296": 2,
    "t306": "2020:01:01 00:00:00", "t315": "An artist", "t33432": "A holder",
}  # fmt: skip


def written(image_format: str, mode: str = "RGB", **metadata: bytes) -> tuple[list[str], bytes]:
    """Save an image and compare its pixels; return what was dropped, and the file."""
    image = Image.fromarray(RGB).convert(mode)
    image.info |= metadata
    before = dict(image.info)
    buffer = io.BytesIO()
    dropped = save_image(image, buffer, image_format)
    assert image.info == before
    with Image.open(io.BytesIO(buffer.getvalue()), formats=[image_format]) as back:
        turn = back.getexif().get(0x0112) if image_format == "TIFF" else 1  # Pillow applies it
        back.load()
        assert back.mode == mode
        image.info.clear()
        image.getexif()[0x0112] = turn
        expected = np.array(ImageOps.exif_transpose(image))
        assert np.array(back).shape == expected.shape
        if image_format in LOSSLESS:
            assert np.array_equal(np.array(back), expected)
    return dropped, buffer.getvalue()


def found_in(data: bytes) -> dict[str, bytes]:
    """Return the metadata of a file in Pillow's `info`."""
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        values = {name: image.info.get(name, b"") for name in NAMES}
        values["exif"] = values["exif"].removeprefix(b"Exif\0\0")
        return values


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".avif", ".tiff"])
def test_metadata_survives_a_way_through_every_format_that_has_it(suffix: str) -> None:
    image = Image.fromarray(RGB)
    image.info |= METADATA
    buffer = io.BytesIO()
    assert save_image(image, buffer, FORMATS[suffix]) == []
    found = take_apart(open_image(io.BytesIO(buffer.getvalue()), "image")).metadata
    assert found["icc_profile"] == METADATA["icc_profile"]
    assert found["xmp"] == METADATA["xmp"]


@pytest.mark.parametrize("suffix", [".ppm", ".bmp"])
def test_metadata_that_a_format_cannot_hold_is_named(suffix: str) -> None:
    image = Image.fromarray(RGB)
    image.info |= METADATA
    assert save_image(image, io.BytesIO(), FORMATS[suffix]) == NAMES


@pytest.mark.parametrize("suffix", [".jpg", ".bmp", ".ppm"])
def test_alpha_is_never_dropped_silently(suffix: str) -> None:
    with pytest.raises(ImageError, match="alpha"):
        save_image(Image.new("RGBA", (3, 3)), io.BytesIO(), FORMATS[suffix])


@pytest.mark.parametrize("image_format", ["PNG", "WEBP", "TIFF"])
def test_lossless_formats_keep_the_colors_under_transparent_pixels(image_format: str) -> None:
    pixels = RNG.integers(0, 256, (20, 30, 4), dtype=np.uint8)
    pixels[5:15, :, 3] = 0
    buffer = io.BytesIO()
    save_image(Image.fromarray(pixels), buffer, image_format)
    with Image.open(buffer) as image:
        assert np.array_equal(np.array(image), pixels)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (641, 3)])
def test_tiff_holds_every_mode_and_size(
    mode: str, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caecodec.image.tiff._BAND_BYTES", 2000)
    image = Image.fromarray(np.resize(RGB, (*size[::-1], 3))).convert(mode)
    image.info |= METADATA
    buffer = io.BytesIO()
    assert save_image(image, buffer, "TIFF") == []
    with Image.open(buffer) as back:
        assert (back.mode, back.info["icc_profile"]) == (mode, METADATA["icc_profile"])
        assert np.array_equal(np.array(back), np.array(image))


def test_a_tiff_of_4_gb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("caecodec.image.tiff._MAX_BYTES", 700)
    with pytest.raises(ImageError, match="cannot write TIFF: it would have more than 4 GB"):
        save_image(Image.fromarray(RGB), io.BytesIO(), "TIFF")


@pytest.mark.parametrize("byte_order", ["<", ">"])
@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_exif_never_changes_how_a_tiff_is_read(mode: str, byte_order: str) -> None:
    turned = CAMERA | {"t274": 6}
    exif = exif_of(byte_order, **turned, **STRUCTURE)
    dropped, data = written("TIFF", mode, exif=exif, xmp=METADATA["xmp"])
    assert dropped == []
    with Image.open(io.BytesIO(data)) as image:
        tags = image.getexif()
        assert {name: tags[int(name[1:])] for name in turned} == turned
        assert tags.get_ifd(0x8769)[37500] == b"a maker note"
        assert tags.get_ifd(0x8825) == {1: "N", 2: (1.0, 2.0, 3.0)}
        assert tags[259] == 1
        assert not {317, 320, 322, 324, 330, 513, 50706} & set(tags)
        assert image.info["xmp"] == METADATA["xmp"]


def test_a_tiff_starts_with_the_bytes_of_the_exif() -> None:
    exif = exif_of(t315="José".encode(), **STRUCTURE)
    _, data = written("TIFF", exif=exif)
    assert data[8 : len(exif)] == exif[8:]


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP", "AVIF"])
@pytest.mark.parametrize("orientation", [1, 6, None])
def test_exif_comes_back_byte_for_byte(image_format: str, orientation: int | None) -> None:
    tags = CAMERA | ({"t274": orientation} if orientation else {})
    exif = exif_of(**tags | {"t315": "José".encode()})
    dropped, data = written(image_format, exif=exif)
    assert dropped == []
    assert found_in(data)["exif"] == exif


ODD = {
    "no EXIF": b"no Exif",
    "header alone": b"II*\0",
    "end": b"II*\0\x08\0\0\0",
    "BigTIFF": b"II+\0\x08\0\0\0" + bytes(16),
    "beyond its end": b"II*\0\xff\0\0\0",
    "short directory": b"II*\0\x08\0\0\0\xff\0",
    "many entries": b"II*\0\x08\0\0\0\xff\xff" + bytes(12 * 65_535 + 4),
    "a text as orientation": b"II*\0\x08\0\0\0\1\0" + struct.pack("<HHL4s", 274, 2, 4, b"abc"),
    "not text": b"\xff\xfe not UTF-8",
    "zeros": bytes(70_000),
    "long": b"<x>" + b"y" * 100_000 + b"</x>",
    "empty": b"",
}


@pytest.mark.parametrize("image_format", WITH_METADATA)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("odd", ODD)
def test_odd_metadata_is_kept_whole_or_named_and_the_pixels_are_written(
    image_format: str, name: str, odd: str
) -> None:
    others = {other: METADATA[other] for other in NAMES if other != name}
    dropped, data = written(image_format, **{name: ODD[odd]}, **others)
    assert dropped in ([], [name])
    expected = METADATA | {name: b"" if dropped else ODD[odd]}
    found = found_in(data)
    if image_format == "TIFF":
        expected["exif"] = b""  # Pillow has its tags elsewhere
    if image_format == "JPEG" and len(expected["xmp"]) > 65_502:
        expected["xmp"] = found["xmp"]
    assert found == expected


@pytest.mark.parametrize(
    ("image_format", "name", "value"),
    [
        ("PNG", "xmp", b"\xff\xfe not UTF-8"),
        ("PNG", "xmp", "<x/>".encode("utf-16-le")),
        ("TIFF", "exif", b"no Exif"),
        ("AVIF", "exif", b"no Exif"),
        ("AVIF", "exif", b"II*\0\x08"),
        ("JPEG", "exif", bytes(65_528)),
    ],
)
def test_what_no_reader_would_take_is_named(image_format: str, name: str, value: bytes) -> None:
    assert written(image_format, **{name: value})[0] == [name]


@pytest.mark.parametrize("orientation", [0, 9, 1 << 31])
@pytest.mark.parametrize("image_format", WITH_METADATA)
def test_an_orientation_that_is_none_turns_nothing(image_format: str, orientation: int) -> None:
    entry = struct.pack("<HHLL", 274, 4, 1, orientation)
    exif = b"II*\0\x08\0\0\0\1\0" + entry + bytes(4)
    assert written(image_format, exif=exif)[0] == []


def test_the_longest_exif_of_a_jpeg_is_kept() -> None:
    exif = METADATA["exif"].ljust(65_527, b"x")
    dropped, data = written("JPEG", exif=exif)
    assert dropped == []
    assert found_in(data)["exif"] == exif


def test_a_profile_longer_than_a_jpeg_can_hold_never_reaches_pillow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[set[str]] = []
    save = Image.Image.save

    def watched(image: Image.Image, *args: str, **options: object) -> None:
        given.append(set(options))
        save(image, *args, **options)

    monkeypatch.setattr(Image.Image, "save", watched)
    image = Image.fromarray(RGB)
    image.info["icc_profile"] = bytes(64 << 20)
    assert save_image(image, io.BytesIO(), "JPEG") == ["icc_profile"]
    assert given == [{"quality", "subsampling"}]
    image.info["icc_profile"] = RNG.bytes(200_000)
    buffer = io.BytesIO()
    assert save_image(image, buffer, "JPEG") == []
    assert found_in(buffer.getvalue())["icc_profile"] == image.info["icc_profile"]


def segments_of(jpeg: bytes) -> list[bytes]:
    """Return the content of each APP1 segment."""
    place, found = 2, []
    while jpeg[place + 1] != 0xDA:
        (length,) = struct.unpack_from(">H", jpeg, place + 2)
        if jpeg[place + 1] == 0xE1:
            found.append(jpeg[place + 4 : place + 2 + length])
        place += 2 + length
    return found


def test_long_xmp_in_a_jpeg_is_an_extension_that_its_main_packet_names() -> None:
    xmp = b"<x:xmpmeta>" + b"y" * 100_000 + b"</x:xmpmeta>"
    dropped, data = written("JPEG", xmp=xmp)
    assert dropped == []
    main, *extensions = segments_of(data)
    named = re.search(rb'xmpNote:HasExtendedXMP="(\w{32})"', main)
    assert main.startswith(b"http://ns.adobe.com/xap/1.0/\0")
    assert named is not None
    whole = b""
    for extension in extensions:
        prefix, guid, length, offset, part = struct.unpack(
            f">35s32sLL{len(extension) - 75}s", extension
        )
        assert prefix == b"http://ns.adobe.com/xmp/extension/\0"
        assert (guid, length, offset) == (named[1], len(xmp), len(whole))
        whole += part
    assert whole == xmp
    assert hashlib.md5(whole).hexdigest().upper().encode() == named[1]


def test_xmp_of_one_segment_is_not_split() -> None:
    xmp = b"x" * 65_502
    assert found_in(written("JPEG", xmp=xmp)[1])["xmp"] == xmp


def test_a_profile_that_pillow_would_not_read_stays_in_a_png() -> None:
    image = Image.fromarray(RGB)
    image.info["icc_profile"] = RNG.bytes(2 << 20)
    buffer = io.BytesIO()
    assert save_image(image, buffer, "PNG") == []
    data = buffer.getvalue()
    place = data.index(b"iCCPICC Profile\0\0")
    assert zlib.decompressobj().decompress(data[place + 17 :]) == image.info["icc_profile"]


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("image_format", WITH_METADATA)
def test_damaged_exif_never_stops_or_changes_pixels(image_format: str, seed: int) -> None:
    choose = random.Random(seed)
    whole = exif_of(choose.choice("<>"), **CAMERA, **STRUCTURE)
    for _ in range(25):
        exif = bytearray(whole)
        for _ in range(choose.choice([1, 2, 8])):
            exif[choose.randrange(len(exif))] = choose.choice([0, 1, 2, 5, 13, 255])
        if choose.random() < 0.2:
            del exif[choose.randrange(len(exif)) :]
        assert written(image_format, exif=bytes(exif))[0] in ([], ["exif"])


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"t282": 300.0, "t283": 200.0, "t296": 2}, (300, 200)),
        ({"t282": 300.0, "t283": 300.0}, (300, 300)),
        ({"t282": 100.0, "t283": 100.0, "t296": 3}, (254, 254)),
        ({"t282": 300.0, "t283": 300.0, "t296": 1}, None),
        ({"t282": 300.0, "t296": 2}, None),
        ({"t282": 0.0, "t283": 300.0, "t296": 2}, None),
        ({"t282": 70_000.0, "t283": 300.0, "t296": 2}, None),
    ],
)
@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_the_dpi_of_an_exif(
    tags: dict[str, float], expected: tuple[float, float] | None, byte_order: str
) -> None:
    assert dpi_of(exif_of(byte_order, **tags)) == expected


@pytest.mark.parametrize("exif", ODD.values(), ids=ODD)
def test_odd_exif_has_no_dpi(exif: bytes) -> None:
    assert dpi_of(exif) is None


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "TIFF", "BMP"])
def test_a_scan_keeps_its_dpi(image_format: str) -> None:
    _, data = written(image_format, exif=exif_of(**CAMERA))
    with Image.open(io.BytesIO(data)) as image:
        assert tuple(map(float, image.info["dpi"])) == pytest.approx((300, 300), abs=0.01)


@pytest.mark.parametrize(
    ("suffix", "dropped"), [(".png", []), (".tif", ["exif"]), (".bmp", ["exif", "xmp"])]
)
def test_decompress_says_what_it_dropped(tmp_path: Path, suffix: str, dropped: list[str]) -> None:
    image = Image.fromarray(RGB)
    image.info |= {"exif": b"II*\0exif", "xmp": METADATA["xmp"]}
    source, target = tmp_path / "a.cae", tmp_path / f"a{suffix}"
    source.write_bytes(Codec(TOY).compress(image))
    result = run("decompress", source, target, "--json", *MODEL)
    assert result.exit_code == 0
    assert json.loads(result.stdout)["not_stored"] == dropped
    spoken = run("decompress", source, target, "-f", *MODEL).stderr
    assert (f"{' and '.join(dropped)} dropped" in spoken) == bool(dropped)
    with Image.open(target) as back:
        assert back.size == image.size


def test_xmp_padded_with_nuls_is_text_for_png() -> None:
    dropped, data = written("PNG", xmp=METADATA["xmp"] + b"\0")
    assert dropped == []
    assert found_in(data)["xmp"] == METADATA["xmp"]


@pytest.mark.parametrize("suffix", sorted(FORMATS))
def test_what_is_written_is_read_back(suffix: str) -> None:
    image = Image.new("RGB", (9, 5))
    image.info |= METADATA
    buffer = io.BytesIO()
    dropped = save_image(image, buffer, FORMATS[suffix])
    check_saved(io.BytesIO(buffer.getvalue()), image, FORMATS[suffix], dropped)
    with pytest.raises(ImageError, match="cannot be read"):
        check_saved(io.BytesIO(buffer.getvalue()[:5]), image, FORMATS[suffix], dropped)
    other = Image.new("RGB", (9, 6))
    with pytest.raises(ImageError, match="9 x 5 pixels"):
        check_saved(io.BytesIO(buffer.getvalue()), other, FORMATS[suffix], dropped)


def test_metadata_missing_in_what_is_written_is_an_error() -> None:
    image, buffer = Image.new("RGB", (9, 5)), io.BytesIO()
    save_image(image, buffer, "PNG")
    image.info |= METADATA
    with pytest.raises(ImageError, match="lacks its exif, icc_profile, xmp"):
        check_saved(buffer, image, "PNG", [])
