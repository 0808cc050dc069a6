"""The command `view`."""

from __future__ import annotations

import tempfile
import webbrowser
from pathlib import Path, PurePath
from typing import Annotated

import typer

from caecodec.cli.console import print_line, reports_errors
from caecodec.cli.jobs import Job, check_target
from caecodec.cli.options import Force, Model


@reports_errors
def view(
    file: Annotated[str | None, typer.Argument(metavar="FILE")] = None,
    out: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--output",
            metavar="PAGE",
            help="HTML file to write; without it, a temporary one is opened.",
        ),
    ] = None,
    model: Model = None,
    force: Force = False,
) -> None:
    """Show a .cae file in the browser, by a page that needs neither caecodec nor a network.

    Decoder, weights and image are inside the page: whoever gets it opens it, and can drop other
    files of the same model on it. Without FILE it waits for files of the shipped models. It saves
    them as PNG.

    Examples:
      caecodec view photo.cae
      caecodec view photo.cae -o photo.html
      caecodec view
    """
    from caecodec.files.places import read_file, write_file  # noqa: PLC0415
    from caecodec.view import make_page, models_for  # noqa: PLC0415

    if out is not None:
        check_target(Job(file or "", out), force=force)
    data = b"" if file is None else read_file(file)
    text = make_page(
        models_for(None if file is None else data, model),
        None if file is None else PurePath(file).name,
        data,
    )
    if out is not None:
        write_file(out, lambda target: target.write(text.encode()))
        return
    with tempfile.NamedTemporaryFile(prefix="caecodec-", suffix=".html", delete=False) as page:
        page.write(text.encode())
    print_line(page.name)
    webbrowser.open(Path(page.name).as_uri())
