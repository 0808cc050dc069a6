"""The outcome of every image, as Parquet: parts during a run, one file at its end."""

from __future__ import annotations

import dataclasses
import enum
import functools
import io
import secrets
import time
from collections.abc import Iterable
from typing import Any

from caecodec.errors import ConfigError
from caecodec.extras import import_extra
from caecodec.files.urls import join_url, names_below, read_url, remove_url, url_exists, write_url

Row = dict[str, Any]
COLUMNS = {
    "path": "string", "output": "string", "status": "string", "width": "int32", "height": "int32",
    "bytes": "int64", "bpp": "float64", "quality": "float64", "effort": "int32",
    "digest": "string", "seconds": "float64", "error": "string",
}  # fmt: skip
"""Column -> type; `digest` is of the weights, in hex; `seconds` is the time of coding."""


class Status(enum.StrEnum):
    """The outcome of an image; skipped: an earlier run has done it."""

    done = "done"
    failed = "failed"
    skipped = "skipped"


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The manifest of a folder of `.cae` files, written by one run at a time.

    Attributes:
        folder: path or URL.
    """

    folder: str

    @property
    def path(self) -> str:
        """The file with a row for every image, once a run has ended."""
        return join_url(self.folder, "manifest.parquet")

    @property
    def _parts(self) -> str:
        return join_url(self.folder, "manifest.parts")

    def append(self, rows: Iterable[Row]) -> None:
        """Write a part, which survives whatever happens to the run."""
        name = f"{time.time_ns():020}-{secrets.token_hex(4)}.parquet"
        _write(join_url(self._parts, name), rows)

    def merge(self) -> dict[str, Row]:
        """Merge all parts, including those of an interrupted run, into the one file.

        Returns:
            Path of every image so far -> its latest row.

        Raises:
            ConfigError: a file of this name is not a manifest.
            UrlError: it cannot be read or written.
        """
        parts = [join_url(self._parts, name) for name in names_below(self._parts)]
        files = [self.path, *parts] if url_exists(self.path) else parts
        rows = {row["path"]: row for file in files for row in _read(file)}
        if parts:
            _write(self.path, rows.values())
            for part in parts:
                remove_url(part)
        return rows


def table_of(rows: Iterable[Row]) -> Any:
    """Return rows as an Arrow table, null where a row has no value: all tables share a schema."""
    return import_extra("pyarrow", "ray").Table.from_pylist(list(rows), schema=_schema())


@functools.cache
def _schema() -> Any:
    arrow = import_extra("pyarrow", "ray")
    return arrow.schema([(name, arrow.type_for_alias(kind)) for name, kind in COLUMNS.items()])


def _write(path: str, rows: Iterable[Row]) -> None:
    table = table_of(rows)
    write_url(path, lambda file: import_extra("pyarrow.parquet", "ray").write_table(table, file))


def _read(path: str) -> list[Row]:
    try:
        table = import_extra("pyarrow.parquet", "ray").read_table(io.BytesIO(read_url(path)))
        return list(table.cast(_schema()).to_pylist())
    except ValueError as error:  # the base of Arrow's errors
        raise ConfigError(
            f"{path} is not a manifest of caecodec: {str(error).splitlines()[0]}"
        ) from error
