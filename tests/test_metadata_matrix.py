"""The table of docs/reference/metadata.md, made by reading an image of each kind.

python tests/test_metadata_matrix.py    writes it anew
"""

import io
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features
from samples import (
    CHRM_P3,
    GRAY,
    PACKET,
    PROFILE,
    RGB,
    bmp_with,
    exif_of,
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
from caecodec.image.picture import take_apart

DOCUMENT = Path(__file__).parent.parent / "docs" / "reference" / "metadata.md"
HEADER = "| format | EXIF | ICC | XMP | IPTC | DPI | orientation | alpha | colours by number |"
COLUMNS = ("exif", "icc", "xmp", "iptc", "dpi", "orientation", "alpha", "colors")
RGBA = RGB.copy()
RGBA.putalpha(Image.fromarray(np.arange(96, dtype=np.uint8).reshape(8, 12)))
EXIF = b"Exif\0\0" + exif_of()
IPTC = b"\x1c\2\5\0\3abc"
P3 = {318: (0.3127, 0.3290), 319: (0.68, 0.32, 0.265, 0.69, 0.15, 0.06)}
XMP_UUID = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
IPTC_UUID = bytes.fromhex("33c7a4d2b81d4723a0baf1a3e097ad38")

Sample = Callable[[], bytes]


def with_all_three(image_format: str) -> dict[str, Sample]:
    """Return samples of a format into which Pillow writes EXIF, ICC and XMP."""
    return {
        "exif": lambda: saved(RGB, image_format, exif=EXIF),
        "orientation": lambda: saved(RGB, image_format, exif=EXIF),
        "icc": lambda: saved(RGB, image_format, icc_profile=PROFILE),
        "xmp": lambda: saved(RGB, image_format, xmp=PACKET),
    }


def alpha_in(image_format: str) -> dict[str, Sample]:
    return {"alpha": lambda: saved(RGBA, image_format)}


def iptc_segment() -> bytes:
    resource = b"8BIM\4\4\0\0" + struct.pack(">I", len(IPTC)) + IPTC + b"\0"
    return jpeg_with((0xED, b"Photoshop 3.0\0" + resource))


def iptc_text() -> bytes:
    text = f"\niptc\n{len(IPTC):8}\n{IPTC.hex()}\n".encode()
    return png_with((b"tEXt", b"Raw profile type iptc\0" + text))


def wide_avif() -> bytes:
    data = saved(RGB, "AVIF")
    place = data.index(b"nclx") + 4
    return data[:place] + struct.pack(">HH", 12, 13) + data[place + 4 :]


def wide_bmp() -> bytes:
    points = (0.49, 0.23, 0, 0.26, 0.69, 0.05, 0.2, 0.08, 1.04)
    numbers = [round(value * 2**30) for value in points]
    return bmp_with(bytes(4), struct.pack("<9i3I", *numbers, *[round(2.2 * 2**16)] * 3))


def bmp_of_alpha() -> bytes:
    """Return a file whose header has a mask of alpha; without one, BMP has no alpha."""
    pixels = np.asarray(RGBA)[::-1, :, [2, 1, 0, 3]].tobytes()
    header = struct.pack("<IiiHHIIiiII", 108, 12, 8, 1, 32, 3, len(pixels), 0, 0, 0, 0)
    header += struct.pack("<4I4s", 0xFF0000, 0xFF00, 0xFF, 0xFF000000, b"BGRs") + bytes(48)
    return b"BM" + struct.pack("<IHHI", 122 + len(pixels), 0, 0, 122) + header + pixels


def psd_of_alpha() -> bytes:
    data = psd_with()
    planes = np.asarray(RGBA).transpose(2, 0, 1).tobytes()
    return data[:12] + struct.pack(">H", 4) + data[14 : -3 * 96] + planes


def resolution_of_psd() -> bytes:
    return psd_with((1005, struct.pack(">IHHIHH", 300 << 16, 1, 1, 300 << 16, 1, 1)))


def cur_of_alpha() -> bytes:
    """Return an icon as a cursor: the type is another, and two fields are the hot spot."""
    data = saved(RGBA.resize((16, 16)), "ICO", sizes=[(16, 16)], bitmap_format="bmp")
    return data[:2] + b"\2" + data[3:]


def xpm_of_alpha() -> bytes:
    lines = ["2 1 2 1", "a c None", "b c #102030", "ab"]
    body = ",\n".join(f'"{line}"' for line in lines)
    return f"/* XPM */\nstatic char *sample[] = {{\n{body}\n}};\n".encode()


def pcx_of_300_dpi() -> bytes:
    data = saved(RGB, "PCX")
    return data[:12] + struct.pack("<HH", 300, 300) + data[16:]


def mpo() -> dict[str, Sample]:
    frames = {"save_all": True, "append_images": [RGB]}
    return {
        "exif": lambda: saved(RGB, "MPO", exif=EXIF, **frames),
        "orientation": lambda: saved(RGB, "MPO", exif=EXIF, **frames),
        "icc": lambda: saved(RGB, "MPO", icc_profile=PROFILE, **frames),
        "xmp": lambda: saved(RGB, "MPO", xmp=PACKET, **frames),
        "dpi": lambda: saved(RGB, "MPO", dpi=(300, 300), **frames),
    }


SAMPLES: dict[str, dict[str, Sample]] = {
    "AVIF": with_all_three("AVIF") | alpha_in("AVIF") | {"colors": wide_avif},
    "BMP": {
        "icc": lambda: bmp_with(b"MBED", profile=PROFILE),
        "dpi": lambda: saved(RGB, "BMP", dpi=(300, 300)),
        "alpha": bmp_of_alpha,
        "colors": wide_bmp,
    },
    "CUR": {"alpha": cur_of_alpha},
    "DDS": alpha_in("DDS"),
    "DIB": {
        "icc": lambda: bmp_with(b"MBED", profile=PROFILE)[14:],
        "dpi": lambda: saved(RGB, "DIB", dpi=(300, 300)),
        "alpha": lambda: bmp_of_alpha()[14:],
        "colors": lambda: wide_bmp()[14:],
    },
    "GIF": {
        "icc": gif_with_profile,
        "xmp": gif_with_xmp,
        "alpha": lambda: saved(GRAY, "GIF", transparency=7),
    },
    "ICNS": alpha_in("ICNS"),
    "ICO": alpha_in("ICO"),
    "JPEG": with_all_three("JPEG")
    | {"iptc": iptc_segment, "dpi": lambda: saved(RGB, "JPEG", dpi=(300, 300))},
    "JPEG 2000": {
        "exif": lambda: jp2_with((b"uuid", b"JpgTiffExif->JP2" + exif_of())),
        "orientation": lambda: jp2_with((b"uuid", b"JpgTiffExif->JP2" + exif_of())),
        "icc": jp2_with_profile,
        "xmp": lambda: jp2_with((b"uuid", XMP_UUID + PACKET)),
        "iptc": lambda: jp2_with((b"uuid", IPTC_UUID + IPTC)),
        "alpha": lambda: saved(RGBA, "JPEG2000"),
    },
    "MPO": mpo(),
    "PCX": {"dpi": pcx_of_300_dpi},
    "PNG": with_all_three("PNG")
    | alpha_in("PNG")
    | {
        "xmp": lambda: png_with((b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + PACKET)),
        "iptc": iptc_text,
        "dpi": lambda: saved(RGB, "PNG", dpi=(300, 300)),
        "colors": lambda: png_with((b"cHRM", CHRM_P3)),
    },
    "PSD": {
        "exif": lambda: psd_with((1058, exif_of())),
        "orientation": lambda: psd_with((1058, exif_of())),
        "icc": lambda: psd_with((1039, PROFILE)),
        "xmp": lambda: psd_with((1060, PACKET)),
        "iptc": lambda: psd_with((1028, IPTC)),
        "dpi": resolution_of_psd,
        "alpha": psd_of_alpha,
    },
    "QOI": alpha_in("QOI"),
    "SGI": alpha_in("SGI"),
    "TGA": alpha_in("TGA") | {"orientation": lambda: saved(RGB, "TGA", orientation=1)},
    "TIFF": with_all_three("TIFF")
    | alpha_in("TIFF")
    | {
        "xmp": lambda: saved(RGB, "TIFF", tiffinfo={700: PACKET}),
        "iptc": lambda: saved(RGB, "TIFF", tiffinfo={33723: IPTC}),
        "dpi": lambda: saved(RGB, "TIFF", dpi=(300, 300)),
        "colors": lambda: saved(RGB, "TIFF", tiffinfo=P3),
    },
    "WebP": with_all_three("WEBP") | alpha_in("WEBP"),
    "XPM": {"alpha": xpm_of_alpha},
}


def what_becomes_of(field: str, data: bytes) -> str:
    """Return the cell of the table for a file whose field is of this kind."""
    image, left = read_image(io.BytesIO(data), "sample")
    picture = take_apart(image)
    kept = picture.metadata
    exif = Image.Exif()
    exif.load(kept.get("exif", b""))
    found = {
        "exif": "kept" if exif.get(271) == "Maker" else "",
        "icc": "kept" if kept.get("icc_profile") == PROFILE else "",
        "xmp": "kept" if kept.get("xmp") == PACKET else "",
        "iptc": "",
        "dpi": "as EXIF" if round(exif.get(282, 0)) == 300 else "",
        "orientation": "kept" if exif.get(274) == 6 else "",
        "alpha": "kept" if picture.mode.has_alpha else "",
        "colors": "as ICC" if "icc_profile" in kept else "",
    }[field]
    if not found and field == "orientation" and is_upright(image):
        return "upright"
    return found or ("named" if left else "lost")


def is_upright(image: Image.Image) -> bool:
    """Whether a turned sample is as the others are: its first row has the darkest pixels."""
    upright = RGB.transpose(Image.Transpose.ROTATE_270) if image.width < image.height else RGB
    return np.array_equal(np.asarray(image.convert("RGB")), np.asarray(upright))


def rows() -> Iterator[str]:
    for name, samples in SAMPLES.items():
        if features.check("avif") or name != "AVIF":
            cells = [
                what_becomes_of(column, samples[column]()) if column in samples else "–"
                for column in COLUMNS
            ]
            yield f"| {' | '.join((name, *cells))} |"


def table() -> list[str]:
    """Return the table as it stands in the document."""
    lines = DOCUMENT.read_text(encoding="utf-8").splitlines()
    start = lines.index(HEADER) + 2
    return lines[start : lines.index("", start)]


@pytest.mark.skipif(not features.check("avif"), reason="Pillow without AVIF")
def test_the_table_says_what_becomes_of_metadata() -> None:
    assert table() == list(rows())
    assert not any("lost" in row for row in table())


if __name__ == "__main__":
    text = DOCUMENT.read_text(encoding="utf-8").splitlines()
    at = text.index(HEADER) + 2
    text[at : at + len(table())] = rows()
    DOCUMENT.write_text("\n".join(text) + "\n", encoding="utf-8")
