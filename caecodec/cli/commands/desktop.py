"""The command `desktop`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from caecodec.cli.console import print_line, reports_errors


@reports_errors
def desktop(
    prefix: Annotated[
        Path | None,
        typer.Option(help="Data folder (default: $XDG_DATA_HOME, or ~/.local/share)."),
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Delete these files.")] = False,
) -> None:
    """Register `.cae` with the desktop: MIME type, thumbnails in file managers, file(1) magic.

    Writes mime/packages/caecodec.xml, thumbnailers/caecodec.thumbnailer and misc/caecodec.magic
    in the data folder. For all users: --prefix /usr/share.

    Examples:
      caecodec desktop
      file -m ~/.local/share/misc/caecodec.magic photo.cae
      caecodec desktop --remove
    """
    from caecodec import desktop as files  # noqa: PLC0415

    default = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    folder = prefix or Path(default)
    paths = files.remove(folder) if remove else files.install(folder)
    for path in paths:
        print_line(f"{'removed' if remove else 'wrote'} {path}")
