"""The files by which file managers and file(1) recognise `.cae` files."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

_HERE = Path(__file__).parent
PLACES = {
    "caecodec.xml": "mime/packages",
    "caecodec.thumbnailer": "thumbnailers",
    "caecodec.magic": "misc",
}
"""File -> its folder below the data folder, by the freedesktop.org specifications."""


def install(data_folder: Path) -> list[Path]:
    """Write the files below a data folder, such as ~/.local/share, and update its MIME database.

    Returns:
        The files written.

    Raises:
        OSError: a file cannot be written.
    """
    program = shutil.which("caecodec") or str(Path(sys.argv[0]).resolve())
    written = _paths(data_folder)
    for path in written:
        path.parent.mkdir(parents=True, exist_ok=True)
        text = (_HERE / path.name).read_text(encoding="utf-8")
        path.write_text(text.replace("@PROGRAM@", program), encoding="utf-8")
    _refresh(data_folder)
    return written


def remove(data_folder: Path) -> list[Path]:
    """Delete what `install` wrote.

    Returns:
        The files deleted.

    Raises:
        OSError: a file cannot be deleted.
    """
    found = [path for path in _paths(data_folder) if path.exists()]
    for path in found:
        path.unlink()
    _refresh(data_folder)
    return found


def _paths(data_folder: Path) -> list[Path]:
    return [data_folder / folder / name for name, folder in PLACES.items()]


def _refresh(data_folder: Path) -> None:
    """Update the MIME database; without the program, there is none to update."""
    program = shutil.which("update-mime-database")
    if program:
        subprocess.run([program, str(data_folder / "mime")], check=False, capture_output=True)  # noqa: S603 - found on the path
