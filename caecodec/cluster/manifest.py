"""What became of every image, as parquet: parts while a run goes on, one file at its end."""

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
"""Column -> type; digest is that of the weights, as hex, seconds those of coding."""


class Status(enum.StrEnum):
    """What became of an image; skipped: an earlier run had done it."""

    done = "done"
    failed = "failed"
    skipped = "skipped"


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The manifest of a folder of `.cae` files; one run writes it at a time.

    Attributes:
        folder: path or URL.
    """

    folder: str

    @property
    def path(self) -> str:
        """The file that holds a row for every image, once a run is over."""
        return join_url(self.folder, "manifest.parquet")

    @property
    def _parts(self) -> str:
        return join_url(self.folder, "manifest.parts")

    def append(self, rows: Iterable[Row]) -> None:
        """Write a part: it outlives whatever happens to the run."""
        name = f"{time.time_ns():020}-{secrets.token_hex(4)}.parquet"
        _write(join_url(self._parts, name), rows)

    def merge(self) -> dict[str, Row]:
        """Put all parts, also those of a run that was cut off, into the one file.

        Returns:
            The path of every image ever met -> its latest row.

        Raises:
            ConfigError: a file of this name is no manifest.
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
    """Return rows as an Arrow table, empty where a row has no value: all tables have one schema."""
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
    except ValueError as error:  # as Arrow's errors are
        raise ConfigError(
            f"{path} is not a manifest of caecodec: {str(error).splitlines()[0]}"
        ) from error
