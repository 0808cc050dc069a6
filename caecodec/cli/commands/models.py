"""The commands `models` and `features`; each imports what it needs when it runs."""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from caecodec.cli.console import print_line, reports_errors, shown
from caecodec.cli.jobs import Job, check_target
from caecodec.cli.options import Force, Model
from caecodec.config import DEFAULT_TUNE

if TYPE_CHECKING:
    from rich.table import Table

    from caecodec.nn.summary import LayerRow
    from caecodec.weights.storage import Weights

_WIDTH = 180


@reports_errors
def models(
    model: Annotated[
        list[str] | None,
        typer.Option("--model", help="Show the layers of this shipped model or .safetensors file."),
    ] = None,
) -> None:
    """List the models: name, digest, parameters, compute and size.

    With --model, also shows the layers of that model, encoder and decoder side by side: kind,
    output for an image of 256 x 256 pixels, parameters and kMAC/px.

    Example: caecodec models --model classic
    """
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    from caecodec.weights import SHIPPED  # noqa: PLC0415
    from caecodec.weights.complexity import kmac_per_pixel  # noqa: PLC0415
    from caecodec.weights.storage import find_weights  # noqa: PLC0415

    table = Table("name", "digest", box=None)
    for column in ("parameters", "encode kMAC/px", "decode kMAC/px", "bytes"):
        table.add_column(column, justify="right")
    chosen = {name: find_weights(name) for name in model or []}
    for name in dict.fromkeys((*SHIPPED, *chosen)):
        weights = chosen.get(name) or find_weights(name)
        encode, decode = kmac_per_pixel(weights.config)
        size = weights.path.stat().st_size if weights.path else 0
        table.add_row(
            Text(shown(name)), weights.digest.hex(), f"{weights.num_parameters:,}",
            f"{encode:.2f}", f"{decode:.2f}", f"{size:,}",
        )  # fmt: skip
    console = Console(width=_WIDTH)
    console.print(table)
    for name, weights in chosen.items():
        console.print()
        console.print(_layers(name, weights))


@reports_errors
def features(
    image: Annotated[Path, typer.Argument(metavar="IMAGE")],
    out: Annotated[Path, typer.Option(help="PNG file to write.")],
    layer: Annotated[
        int | None, typer.Option(min=1, help="Layer number, from 1 (default: the last).")
    ] = None,
    model: Model = None,
    force: Force = False,
) -> None:
    """Plot a layer's feature maps for an image, strongest first, and the first layer's kernels.

    Each map is labelled with its channel, its share of the layer's energy, and what it follows in
    the image: light, dark, edges, or lines of one direction (vertical, horizontal).

    Example: caecodec features photo.png --out grid.png --layer 1
    """
    from caecodec.codec.codec import shared_codec  # noqa: PLC0415 - torch
    from caecodec.codec.feature_maps import feature_picture  # noqa: PLC0415
    from caecodec.image.image_files import open_image  # noqa: PLC0415

    check_target(Job(str(image), str(out)), force=force)
    source = open_image(image, str(image))
    picture = feature_picture(shared_codec(model or DEFAULT_TUNE).trained_model, source, layer)
    picture.save(out, format="PNG")
    print_line(f"wrote {out}")


def _layers(name: str, weights: Weights) -> Table:
    """Return the layers of a model, encoder and decoder side by side."""
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    from caecodec.nn.architectures import build_model  # noqa: PLC0415 - loads torch
    from caecodec.nn.summary import layer_rows  # noqa: PLC0415

    table = Table(title=Text(shown(name)), title_justify="left", box=None)
    for side in ("encoder", "decoder"):
        table.add_column(side)
        table.add_column("layer")
        for column in ("output", "parameters", "kMAC/px"):
            table.add_column(column, justify="right")
    encoder, decoder = layer_rows(build_model(weights.config, weights.tensors, folded=False))
    for left, right in zip_longest(encoder, decoder):
        table.add_row(*_cells(left), *_cells(right))
    return table


def _cells(row: LayerRow | None) -> tuple[str, ...]:
    """Return the cells of a row, empty where one side has more layers than the other."""
    if row is None:
        return ("",) * 5
    shape = " x ".join(map(str, row.shape))
    return row.name, row.kind, shape, f"{row.num_parameters:,}", f"{row.kmac_per_pixel:.3f}"
