"""Image files with metadata that Pillow does not write, for the tests of what is kept of them."""

import io
import struct
import zlib

import numpy as np
from PIL import Image, ImageCms

RGB = Image.fromarray(np.arange(8 * 12 * 3, dtype=np.uint8).reshape(8, 12, 3))
GRAY = RGB.convert("L")
PACKET = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/" dc:format="image/x"/>'
    b"</rdf:RDF></x:xmpmeta>"
)
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
CHRM_P3 = struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)
CHRM_SRGB = struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)


def exif_of(**fields: object) -> bytes:
    exif = Image.Exif()
    exif[271], exif[274] = "Maker", 6
    for tag, value in fields.items():
        exif[int(tag.removeprefix("t"))] = value
    return exif.tobytes().removeprefix(b"Exif\0\0")


def saved(image: Image.Image, image_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    end = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + end


def png_with(*chunks: tuple[bytes, bytes], image: Image.Image = RGB, at_end: bool = False) -> bytes:
    data = saved(image, "PNG")
    place = len(data) - 12 if at_end else 33
    extra = b"".join(
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )
    return data[:place] + extra + data[place:]


def jpeg_with(*segments: tuple[int, bytes], tail: bytes = b"") -> bytes:
    data = saved(RGB, "JPEG")
    extra = b"".join(
        bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content
        for marker, content in segments
    )
    return data[:2] + extra + data[2:] + tail


def extended(main: bytes, extension: bytes, *, parts: int, guid: bytes = b"A" * 32) -> bytes:
    main = main.replace(
        b'dc:format="image/x"',
        b'xmlns:xmpNote="http://ns.adobe.com/xmp/note/" xmpNote:HasExtendedXMP="' + guid + b'"',
    )
    size = -(-len(extension) // parts)
    pieces = [
        (0xE1, b"http://ns.adobe.com/xmp/extension/\0" + guid
         + struct.pack(">II", len(extension), at) + extension[at : at + size])
        for at in range(0, len(extension), size)
    ]  # fmt: skip
    return jpeg_with((0xE1, b"http://ns.adobe.com/xap/1.0/\0" + main), *reversed(pieces))


def jp2_with(*extra: tuple[bytes, bytes]) -> bytes:
    data = saved(RGB, "JPEG2000", irreversible=False)
    place = data.index(b"jp2c") - 4
    return data[:place] + b"".join(
        struct.pack(">I", 8 + len(content)) + kind + content for kind, content in extra
    ) + data[place:]  # fmt: skip


def gif_with(label: int, *blocks: bytes) -> bytes:
    data = saved(GRAY, "GIF")
    body = b"".join(bytes([len(block)]) + block for block in blocks)
    return data[:-1] + bytes([0x21, label]) + body + b"\0" + data[-1:]


def bmp_with(space: bytes, fields: bytes = bytes(48), profile: bytes = b"") -> bytes:
    pixels = saved(RGB, "BMP")[54:]
    start = 14 + 124 + len(profile)
    tail = struct.pack("<4I", 4, 124 if profile else 0, len(profile), 0)
    header = struct.pack("<IiiHHIIiiII", 124, 12, 8, 1, 24, 0, len(pixels), 0, 0, 0, 0)
    header += bytes(16) + space[::-1] + fields + tail
    front = b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start)
    return front + header + profile + pixels


def psd_with(*resources: tuple[int, bytes]) -> bytes:
    block = b"".join(
        b"8BIM" + struct.pack(">HHI", number, 0, len(data)) + data + bytes(len(data) % 2)
        for number, data in resources
    )
    planes = np.asarray(RGB).transpose(2, 0, 1).tobytes()
    head = b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, 8, 12, 8, 3) + bytes(4)
    return head + struct.pack(">I", len(block)) + block + bytes(4) + b"\0\0" + planes


def jp2_with_profile() -> bytes:
    data = saved(RGB, "JPEG2000", irreversible=False)
    place, header = data.index(b"colr") - 4, data.index(b"jp2h") - 4
    (length,), (outer,) = (struct.unpack_from(">I", data, at) for at in (place, header))
    box = struct.pack(">I", 11 + len(PROFILE)) + b"colr\2\0\0" + PROFILE
    grown = struct.pack(">I", outer + len(box) - length) + data[header + 4 : place] + box
    return data[:header] + grown + data[place + length :]


def gif_with_xmp() -> bytes:
    trailer = b"\1" + bytes(range(255, -1, -1))
    return saved(GRAY, "GIF")[:-1] + b"!\xff\x0bXMP DataXMP" + PACKET + trailer + b"\0;"


def gif_with_profile() -> bytes:
    pieces = [PROFILE[at : at + 255] for at in range(0, len(PROFILE), 255)]
    return gif_with(0xFF, b"ICCRGBG1012", *pieces)
