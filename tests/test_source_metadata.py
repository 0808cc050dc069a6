"""What an image file holds beside its pixels is stored, or named as not stored."""

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin, features
from samples import (
    CHRM_P3,
    CHRM_SRGB,
    GRAY,
    PACKET,
    PROFILE,
    RGB,
    bmp_with,
    chunk,
    exif_of,
    extended,
    gif_with,
    gif_with_profile,
    gif_with_xmp,
    jp2_with,
    jp2_with_profile,
    jpeg_with,
    png_with,
    psd_with,
    saved,
)

from caecodec.image.image_files import read_image
from caecodec.image.metadata import metadata_of
from caecodec.image.picture import take_apart


def kept_of(data: bytes) -> dict[str, bytes]:
    image, _ = read_image(io.BytesIO(data), "x")
    kept = take_apart(image).metadata
    assert kept == take_apart(Image.open(io.BytesIO(data))).metadata  # of a lazy image, too
    return kept


def left_of(data: bytes) -> tuple[str, ...]:
    return read_image(io.BytesIO(data), "x")[1]


def test_exif_of_a_tiff_is_kept_without_the_fields_of_its_structure() -> None:
    exif = Image.Exif()
    exif.load(exif_of(t306="2026:01:02 03:04:05"))
    exif[34853] = {1: "N"}
    exif[34665] = {37500: b"maker's notes"}
    kept = Image.Exif()
    kept.load(kept_of(saved(RGB, "TIFF", exif=exif.tobytes()))["exif"])
    assert kept[271] == "Maker"
    assert kept[306] == "2026:01:02 03:04:05"
    assert kept.get_ifd(34853)[1] == "N"
    assert kept.get_ifd(34665)[37500] == b"maker's notes"
    assert not {254, 256, 257, 258, 259, 262, 273, 277, 278, 279} & set(kept)


def test_a_tiff_is_stored_upright_as_pillow_loads_it() -> None:
    exif = Image.Exif()
    exif[274], exif[271] = 6, "Maker"
    data = saved(RGB, "TIFF", exif=exif)
    kept = Image.Exif()
    kept.load(kept_of(data)["exif"])
    assert read_image(io.BytesIO(data), "x")[0].size == (8, 12)
    assert 274 not in kept


def test_other_fields_of_a_tiff_are_named() -> None:
    data = saved(RGB, "TIFF", tiffinfo={33723: b"\x1c\2\5\0\3abc", 34377: b"8BIM", 700: PACKET})
    assert left_of(data) == ("Photoshop resources", "IPTC")
    assert kept_of(data)["xmp"] == PACKET


@pytest.mark.parametrize("kind", ["exif", "APP1"])
@pytest.mark.parametrize("at_end", [False, True])
def test_exif_in_text_of_a_png_is_kept(kind: str, at_end: bool) -> None:
    block = b"Exif\0\0" + exif_of()
    text = f"\nexif\n{len(block):8}\n{block.hex()}\n".encode()
    content = f"Raw profile type {kind}".encode() + b"\0\0" + zlib.compress(text)
    data = png_with((b"zTXt", content), at_end=at_end)
    assert kept_of(data)["exif"] == exif_of()
    assert not left_of(data)


def test_other_profiles_in_text_of_a_png_are_kept_or_named() -> None:
    def raw(kind: str, block: bytes) -> tuple[bytes, bytes]:
        text = f"\n{kind}\n{len(block):8}\n{block.hex()}\n".encode()
        return b"tEXt", f"Raw profile type {kind}".encode() + b"\0" + text

    data = png_with(raw("xmp", PACKET), raw("icc", PROFILE), raw("iptc", b"\x1c\2"))
    assert kept_of(data) == {"xmp": PACKET, "icc_profile": PROFILE}
    assert left_of(data) == ("IPTC",)


def test_text_and_other_chunks_of_a_png_are_named() -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("Author", "A")
    text.add_itxt("Title", "é", zip=True)
    data = saved(RGB, "PNG", pnginfo=text)
    assert left_of(data) == ("text (Author, Title)",)
    assert left_of(png_with((b"tIME", bytes(7)), (b"iDOT", b"x"))) == ("PNG chunks tIME",)
    assert left_of(png_with(at_end=True) + b"tail") == ("4 bytes after the image",)
    assert left_of(png_with((b"pHYs", struct.pack(">IIB", 2, 1, 0)))) == ("pixels of 2:1",)


@pytest.mark.parametrize(
    "chunks",
    [
        [(b"gAMA", struct.pack(">I", 45455))],
        [(b"gAMA", struct.pack(">I", 45455)), (b"cHRM", CHRM_SRGB)],
        [(b"gAMA", struct.pack(">I", 100000)), (b"sRGB", b"\0")],
        [(b"cICP", bytes([1, 13, 0, 1]))],
    ],
)
def test_colours_of_srgb_need_no_profile(chunks: list[tuple[bytes, bytes]]) -> None:
    assert kept_of(png_with(*chunks)) == {}


@pytest.mark.parametrize(
    ("chunks", "level", "expected"),
    [
        ([(b"gAMA", struct.pack(">I", 100000))], (55, 55, 55), (128, 128, 128)),
        ([(b"cHRM", CHRM_P3)], (200, 100, 100), (215, 93, 97)),
        ([(b"cICP", bytes([12, 13, 0, 1]))], (200, 100, 100), (215, 93, 97)),
    ],
)
def test_colour_chunks_of_a_png_become_a_profile_of_the_same_colours(
    chunks: list[tuple[bytes, bytes]], level: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    profile = kept_of(png_with(*chunks))["icc_profile"]
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    srgb = ImageCms.createProfile("sRGB")
    shown = ImageCms.profileToProfile(
        Image.new("RGB", (1, 1), level), source, srgb, outputMode="RGB",
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
    )  # fmt: skip
    assert np.abs(np.subtract(shown.getpixel((0, 0)), expected)).max() <= 2


def test_colours_that_no_profile_holds_are_named() -> None:
    assert left_of(png_with((b"cICP", bytes([9, 16, 0, 1])))) == (
        "colours of code points 9, 16 (cICP)",
    )
    flat = struct.pack(">8I", 31270, 32900, *[30000, 30000] * 3)
    assert left_of(png_with((b"cHRM", flat))) == ("colours that nothing can have (gAMA, cHRM)",)


def test_a_gray_image_gets_a_gray_profile() -> None:
    data = png_with((b"gAMA", struct.pack(">I", 100000)), image=GRAY)
    profile = ImageCms.ImageCmsProfile(io.BytesIO(kept_of(data)["icc_profile"]))
    assert profile.profile.xcolor_space.strip() == "GRAY"


def test_a_profile_in_a_png_goes_before_its_chromaticities() -> None:
    data = saved(RGB, "PNG", icc_profile=PROFILE)
    assert kept_of(data[:33] + chunk(b"cHRM", CHRM_P3) + data[33:]) == {"icc_profile": PROFILE}


@pytest.mark.parametrize("parts", [1, 3])
def test_extended_xmp_is_kept_whole(parts: int) -> None:
    big = PACKET.replace(b'dc:format="image/x"', b'dc:source="' + b"y" * 70_000 + b'"')
    whole = kept_of(extended(PACKET, big, parts=max(parts, 2)))["xmp"]
    image = Image.new("L", (1, 1))
    image.info["xmp"] = whole
    assert b"y" * 70_000 in whole
    assert b"HasExtendedXMP" not in whole
    assert whole.count(b"<rdf:RDF") == 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data.replace(struct.pack(">II", 1000, 0), struct.pack(">II", 1001, 0)),
        lambda data: data.replace(b"y" * 20 + b'"', b"y" * 20 + b"<"),
        lambda data: data.replace(b'HasExtendedXMP="A', b'HasExtendedXMP="B'),
    ],
)
def test_extended_xmp_that_is_damaged_is_named(damage: Callable[[bytes], bytes]) -> None:
    extension = PACKET.replace(b'dc:format="image/x"', b'dc:source="' + b"y" * 600 + b'"')
    extension = extension[:-9] + b" " * (1000 - len(extension)) + extension[-9:]
    data = damage(extended(PACKET, extension, parts=1))
    assert left_of(data) == ("extended XMP",)
    assert b"xpacket" not in kept_of(data)["xmp"]


def test_other_segments_of_a_jpeg_are_named() -> None:
    iptc = b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\4\x1c\2\5\0"
    data = jpeg_with((0xED, iptc), (0xFE, b"hello"), (0xEB, b"JP\0\1c2pa"), (0xEC, b"odd"))
    assert left_of(data) == ("a comment", "content credentials (JUMBF)", "segment APP12", "IPTC")


def test_what_follows_a_jpeg_is_named() -> None:
    assert left_of(jpeg_with(tail=b"\0\0\0\x18ftypmp42" + bytes(90))) == (
        "a video after the image",
    )
    assert left_of(jpeg_with(tail=saved(RGB, "JPEG"))) == ("another picture after the image",)
    assert left_of(jpeg_with(tail=b"x" * 2000)) == ("2,000 bytes after the image",)
    assert left_of(jpeg_with(tail=bytes(2000))) == ()


def test_a_gain_map_is_named() -> None:
    packet = PACKET.replace(
        b'dc:format="image/x"',
        b'xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0"',
    )
    data = jpeg_with((0xE1, b"http://ns.adobe.com/xap/1.0/\0" + packet), tail=saved(RGB, "JPEG"))
    assert left_of(data) == ("an HDR gain map",)


def test_further_pictures_of_a_file_are_counted() -> None:
    frames = {"save_all": True, "append_images": [RGB, RGB]}
    assert left_of(saved(RGB, "MPO", **frames)) == ("2 more pictures",)
    assert left_of(saved(Image.new("RGB", (48, 48)), "ICO")) == ("3 more pictures",)


def test_a_resolution_is_kept_as_exif() -> None:
    for data in (
        saved(RGB, "PNG", dpi=(300, 300)),
        saved(RGB, "BMP", dpi=(300, 300)),
        saved(RGB, "JPEG", dpi=(300, 300)),
        saved(RGB, "TIFF", dpi=(300, 300)),
    ):
        exif = Image.Exif()
        exif.load(kept_of(data)["exif"])
        assert (round(exif[282]), round(exif[283]), exif[296]) == (300, 300, 2)
        assert not left_of(data)


def test_a_resolution_that_says_nothing_is_not_kept() -> None:
    assert kept_of(saved(RGB, "PNG", dpi=(72, 72))) == {}
    assert kept_of(saved(RGB, "JPEG")) == {}


def test_a_resolution_beside_exif_without_one_is_named() -> None:
    data = saved(RGB, "PNG", dpi=(300, 300), exif=exif_of())
    assert left_of(data) == ("300 dpi",)


def test_boxes_of_a_jpeg_2000_are_kept_or_named() -> None:
    xmp = bytes.fromhex("be7acfcb97a942e89c71999491e3afac") + PACKET
    data = jp2_with((b"uuid", b"JpgTiffExif->JP2" + exif_of()), (b"uuid", xmp), (b"xml ", b"<a/>"))
    assert kept_of(data) == {"exif": exif_of(), "xmp": PACKET}
    assert left_of(data) == ("XML",)


def test_the_profile_of_a_jpeg_2000_is_kept() -> None:
    assert kept_of(jp2_with_profile()) == {"icc_profile": PROFILE}


@pytest.mark.skipif(not features.check("avif"), reason="Pillow without AVIF")
def test_colours_by_number_of_an_avif_become_a_profile() -> None:
    data = saved(RGB, "AVIF")
    place = data.index(b"nclx") + 4
    assert kept_of(data) == {}
    wide = data[:place] + struct.pack(">HH", 12, 13) + data[place + 4 :]
    profile = ImageCms.ImageCmsProfile(io.BytesIO(kept_of(wide)["icc_profile"]))
    assert profile.profile.red_primary[1][0] == pytest.approx(0.680, abs=0.01)
    bright = data[:place] + struct.pack(">HH", 9, 16) + data[place + 4 :]
    assert left_of(bright) == ("colours of code points 9, 16 (nclx)",)


def test_extensions_of_a_gif_are_kept_or_named() -> None:
    assert kept_of(gif_with_xmp()) == {"xmp": PACKET}
    assert kept_of(gif_with_profile()) == {"icc_profile": PROFILE}
    assert left_of(saved(GRAY, "GIF", comment=b"hello")) == ("a comment",)
    assert left_of(gif_with(0xFF, b"MAGPIE 1.00", b"x")) == ("data of MAGPIE 1.00",)


def test_colours_of_a_bmp_are_kept_or_named() -> None:
    assert kept_of(bmp_with(b"sRGB")) == {}
    assert kept_of(bmp_with(b"MBED", profile=PROFILE)) == {"icc_profile": PROFILE}
    assert left_of(bmp_with(b"LINK")) == ("a link to an ICC profile",)
    points = [round(value * 2**30) for value in (0.49, 0.23, 0, 0.26, 0.69, 0.05, 0.2, 0.08, 1.04)]
    wide = struct.pack("<9i3I", *points, *[round(2.2 * 2**16)] * 3)
    assert list(kept_of(bmp_with(bytes(4), wide))) == ["icc_profile"]


def test_chunks_of_other_formats_are_named() -> None:
    webp = saved(RGB, "WEBP", exif=exif_of())
    grown = webp + b"C2PA\4\0\0\0abcd"
    assert left_of(b"RIFF" + struct.pack("<I", len(grown) - 8) + grown[8:]) == ("a chunk C2PA",)
    assert left_of(b"P6 # hello\n12 8\n255\n" + RGB.tobytes()) == ("a comment",)
    tga = saved(RGB, "TGA")[:-26] + struct.pack("<II", 9, 0) + b"TRUEVISION-XFILE.\0"
    assert left_of(tga) == ("the extension area",)


def test_resources_of_a_psd_are_kept_or_named() -> None:
    data = psd_with((1058, exif_of()), (1060, PACKET), (1039, PROFILE), (1028, b"\x1c\2"))
    assert kept_of(data) == {"exif": exif_of(), "xmp": PACKET, "icc_profile": PROFILE}
    assert left_of(data) == ("IPTC",)


def test_metadata_never_stops_pixels() -> None:
    """Mutants of files full of metadata: what Pillow opens is read."""
    random = np.random.default_rng(7)
    xmp = {"xmp": PACKET, "exif": exif_of(), "icc_profile": PROFILE}
    sources = [saved(RGB, kind, **xmp) for kind in ("JPEG", "PNG", "WEBP", "TIFF")]
    sources += [psd_with((1058, exif_of())), gif_with(0xFF, b"ICCRGBG1012", b"x"), jp2_with()]
    sources += [extended(PACKET, PACKET, parts=2), bmp_with(b"MBED", profile=PROFILE)]
    opened = 0
    for _ in range(60):
        for data in sources:
            mutant = bytearray(data)
            for place in random.integers(0, len(data), 3):
                mutant[place] = random.integers(256)
            try:
                image = Image.open(io.BytesIO(mutant))
            except Exception:  # noqa: BLE001 - Pillow refuses it
                continue
            metadata_of(image)
            opened += 1
    assert opened > 200


def test_primaries_of_a_tiff_become_a_profile() -> None:
    wide = {318: (0.3127, 0.3290), 319: (0.68, 0.32, 0.265, 0.69, 0.15, 0.06)}
    assert list(kept_of(saved(RGB, "TIFF", tiffinfo=wide))) == ["icc_profile"]
    same = {318: (0.3127, 0.3290), 319: (0.64, 0.33, 0.30, 0.60, 0.15, 0.06)}
    assert kept_of(saved(RGB, "TIFF", tiffinfo=same)) == {}


def test_a_png_with_long_metadata_is_read() -> None:
    profile = PROFILE + np.random.default_rng(3).bytes(3_000_000)
    data = saved(RGB, "PNG", icc_profile=profile)
    assert read_image(io.BytesIO(data), "x")[0].info["icc_profile"] == profile
    text = b"Raw profile type xmp\0\0" + zlib.compress(b"\nxmp\n 3000000\n" + b"20" * 3_000_000)
    image, left = read_image(io.BytesIO(png_with((b"zTXt", text))), "x")
    assert image.info["xmp"] == b" " * 3_000_000
    assert not left
