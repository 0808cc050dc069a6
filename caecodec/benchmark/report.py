"""The report: one HTML file with plots, tables, and images under a slider."""

from __future__ import annotations

import base64
import dataclasses
import html
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from caecodec.benchmark.equal_size import Version
from caecodec.benchmark.plot import label_of

_TEMPLATE = Path(__file__).with_name("report.html")
_NATIVE = {
    "jpeg": "jpeg",
    "jpeg-444": "jpeg",
    "mozjpeg": "jpeg",
    "webp": "webp",
    "avif": "avif",
    "avif-psnr": "avif",
}
"""Codecs whose files browsers can show, and their MIME subtypes."""


@dataclasses.dataclass(frozen=True)
class Picture:
    """An image and its versions of about equal size."""

    name: str
    original: Image.Image
    versions: Sequence[Version]


def write_page(
    path: Path,
    *,
    title: str,
    subtitle: str,
    sections: Sequence[tuple[str, str]],
    pictures: Sequence[Picture],
) -> None:
    """Write a page that needs no other file and no network.

    Args:
        path: path of the page; an existing file is replaced.
        title: title of the page.
        subtitle: a line below it.
        sections: headings, and the HTML below each, as from `svg_section` and `table_section`.
        pictures: each under a slider, codecs beside the original.
    """
    values = {
        "TITLE": html.escape(title),
        "SUBTITLE": html.escape(subtitle),
        "SECTIONS": "\n".join(f"<h2>{html.escape(name)}</h2>\n{body}" for name, body in sections),
        "PICTURES_TITLE": "At equal file size" if pictures else "",
        "DATA": json.dumps([_entry(picture) for picture in pictures]).replace("</", "<\\/"),
    }
    page = _TEMPLATE.read_text(encoding="utf-8")
    for name, value in values.items():
        page = page.replace(f"@{name}@", value)
    path.write_text(page, encoding="utf-8")


def svg_section(svg: str, name: str) -> str:
    """Return an SVG file as a part of a page; `name` keeps its ids apart from those of others."""
    own = svg[svg.index("<svg") :]
    for mark in ('id="', 'href="#', "url(#"):
        own = own.replace(mark, f"{mark}{name}-")
    return f'<div class="plot">{own}</div>'


def tabs_section(parts: Mapping[str, str]) -> str:
    """Return parts of a page, shown one at a time and chosen by label."""
    if len(parts) == 1:
        return next(iter(parts.values()))
    buttons = "".join(
        f'<input type="radio" name="tab" id="tab-{number}"{" checked" * (not number)}>'
        f'<label for="tab-{number}">{html.escape(label)}</label>'
        for number, label in enumerate(parts)
    )
    bodies = "".join(f'<div class="tab">{body}</div>' for body in parts.values())
    return f'<div class="tabs">{buttons}{bodies}</div>'


def table_section(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table whose first column is text."""
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in heads)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def _entry(picture: Picture) -> dict[str, Any]:
    original = picture.original
    pixels = original.width * original.height
    versions: list[Mapping[str, str]] = [
        {
            "label": f"{label_of(version.codec)}, {len(version.data):,} bytes",
            "caption": f"{label_of(version.codec)}: {len(version.data):,} bytes, "
            f"{8 * len(version.data) / pixels:.3f} bpp, {version.fidelity}",
            "source": _source(version),
        }
        for version in picture.versions
    ]
    whole = {"label": "original", "caption": "original", "source": _lossless(original)}
    return {
        "name": picture.name,
        "width": original.width,
        "height": original.height,
        "versions": [*versions[:1], whole, *versions[1:]],
    }


def _source(version: Version) -> str:
    if version.codec in _NATIVE:
        return _uri(version.data, _NATIVE[version.codec])
    return _lossless(version.decoded)


def _lossless(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=True)
    return _uri(buffer.getvalue(), "webp")


def _uri(data: bytes, subtype: str) -> str:
    return f"data:image/{subtype};base64,{base64.b64encode(data).decode()}"
