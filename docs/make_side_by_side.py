"""Draw a part of a photograph as several codecs make it at equal file size.

python docs/make_side_by_side.py examples/chelsea.png docs/images/side-by-side.webp
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from caecodec.benchmark.codecs import make_codecs
from caecodec.benchmark.equal_size import Version, at_equal_size
from caecodec.benchmark.plot import label_of
from caecodec.codec.codec import Codec

CODECS = ("cae", "avif", "jpeg")
CROP = (150, 70, 310, 162)
BPP = 0.3
ZOOM = 3
GAP = 12
CAPTION = 44
BACKGROUND, INK = "white", "#1f2328"


def main() -> None:
    """Compress, decompress, and put the crops together."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photo", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--bpp", type=float, default=BPP)
    parser.add_argument("--crop", type=int, nargs=4, default=CROP)
    arguments = parser.parse_args()
    with Image.open(arguments.photo) as image:
        photo = image.convert("RGB")
    photo.info.clear()  # metadata would count against caecodec alone
    codecs = {codec.name: codec for codec in make_codecs(CODECS, models={"cae": Codec()})}
    versions = at_equal_size([codecs[name] for name in CODECS], photo, arguments.bpp)
    panels = [(photo, f"original, {ZOOM} times as large")]
    panels += [(version.decoded, _caption(version)) for version in versions]
    _draw(panels, arguments.crop).save(arguments.out, lossless=True, quality=100, method=6)


def _caption(version: Version) -> str:
    return f"{label_of(version.codec)}: {len(version.data):,} bytes, {version.psnr:.2f} dB"


def _draw(panels: list[tuple[Image.Image, str]], crop: tuple[int, ...]) -> Image.Image:
    """Return the crops in two columns, each above its caption."""
    left, top, right, bottom = crop
    size = ((right - left) * ZOOM, (bottom - top) * ZOOM)
    font = ImageFont.load_default(20)
    cell = size[0] + GAP, size[1] + CAPTION
    rows = (len(panels) + 1) // 2
    sheet = Image.new("RGB", (2 * cell[0] + GAP, rows * cell[1] + GAP), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for number, (image, caption) in enumerate(panels):
        x, y = GAP + number % 2 * cell[0], GAP + number // 2 * cell[1]
        part = image.crop((left, top, right, bottom))
        sheet.paste(part.resize(size, Image.Resampling.BICUBIC), (x, y))
        draw.text((x, y + size[1] + 6), caption, INK, font)
    return sheet


if __name__ == "__main__":
    main()
