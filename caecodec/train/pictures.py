"""What a run ends with: originals above their reconstructions, and the loss by step."""

from __future__ import annotations

import csv
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from caecodec.format.constants import QUALITY_UNIT
from caecodec.nn.entropy_models import replicate_to_multiple
from caecodec.nn.inference import FrozenModel

MAX_COLUMNS = 8
MAX_SIDE = 128
"""Images are shown by their middle, of at most this side, in pixels."""
GAP = 4
QUALITY = 50
_WIDTH, _HEIGHT, _MARGIN = 640, 300, 56


@torch.no_grad()
def compare(model: FrozenModel, images: list[Tensor]) -> Image.Image:
    """Return originals in the upper row and what a file of them decodes to in the lower one.

    Args:
        model: with the weights that were exported.
        images: uint8 (C, H, W); at most MAX_COLUMNS of them, evenly chosen, are shown.
    """
    step = -(-len(images) // MAX_COLUMNS)
    originals = [_middle(image) for image in images[::step]]
    side = max(max(original.shape[1:]) for original in originals) + GAP
    sheet = Image.new("RGB", (side * len(originals), 2 * side), color="white")
    for column, original in enumerate(originals):
        x = original[None].float() / 255
        sheet.paste(_image(x), (column * side, 0))
        sheet.paste(_image(_reconstruct(model, x)), (column * side, side))
    return sheet


def plot_loss(log: Path) -> str:
    """Return an SVG of loss, rate and PSNR by step, from the log of a run."""
    with log.open() as handle:
        rows = list(csv.DictReader(handle))
    steps = [float(row["step"]) for row in rows]
    curves = {
        "loss": [float(row["loss"]) for row in rows],
        "bits per pixel": [float(row["y_bpp"]) + float(row["z_bpp"]) for row in rows],
        "PSNR in dB": [float(row["psnr"]) for row in rows],
    }
    panels = [
        line
        for number, (title, values) in enumerate(curves.items())
        for line in _panel(title, steps, values, _HEIGHT * number)
    ]
    size = f'viewBox="0 0 {_WIDTH} {_HEIGHT * len(curves)}"'
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="13">'
    )
    return "\n".join((head, '<rect width="100%" height="100%" fill="white"/>', *panels, "</svg>\n"))


def _reconstruct(model: FrozenModel, x: Tensor) -> Tensor:
    """Return x_hat of x (1, C, H, W), rounded as for a file of QUALITY."""
    at_quality = model.at(QUALITY * QUALITY_UNIT)
    latent = at_quality.latent(model.stem(replicate_to_multiple(x, model.stride)))
    x_hat = at_quality.synthesize(at_quality.quantize(latent).y_hat)
    return x_hat[..., : x.shape[-2], : x.shape[-1]]


def _middle(image: Tensor) -> Tensor:
    top, left = (max(0, side - MAX_SIDE) // 2 for side in image.shape[1:])
    return image[:, top : top + MAX_SIDE, left : left + MAX_SIDE]


def _image(x: Tensor) -> Image.Image:
    """Return x (1, 3 or 1, H, W) in [0, 1] as an image."""
    levels = (x[0].expand(3, -1, -1) * 255).round().clamp(0, 255).to(torch.uint8)
    return Image.fromarray(levels.permute(1, 2, 0).contiguous().numpy())


def _panel(title: str, steps: list[float], values: list[float], top: float) -> list[str]:
    """Return one curve with its frame, its title and the ends of both scales."""
    low, high = min(values), max(values)
    left, right, upper, lower = _MARGIN, _WIDTH - 16, top + 32, top + _HEIGHT - 32

    def place(step: float, value: float) -> str:
        across = (step - steps[0]) / max(steps[-1] - steps[0], 1.0)
        up = (value - low) / max(high - low, 1e-9)
        return f"{left + across * (right - left):.1f},{lower - up * (lower - upper):.1f}"

    points = " ".join(place(*pair) for pair in zip(steps, values, strict=True))
    frame = f'x="{left}" y="{upper}" width="{right - left}" height="{lower - upper}"'
    return [
        f'<text x="{left}" y="{top + 20}">{title} by step</text>',
        f'<rect {frame} fill="none" stroke="#999"/>',
        f'<text x="{left - 6}" y="{upper + 10}" text-anchor="end">{high:.3g}</text>',
        f'<text x="{left - 6}" y="{lower}" text-anchor="end">{low:.3g}</text>',
        f'<text x="{left}" y="{lower + 18}">{steps[0]:g}</text>',
        f'<text x="{right}" y="{lower + 18}" text-anchor="end">{steps[-1]:g}</text>',
        f'<polyline points="{points}" fill="none" stroke="#0a5" stroke-width="1.5"/>',
    ]
