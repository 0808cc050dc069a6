"""What a run writes beside its checkpoint, as CSV."""

from __future__ import annotations

import csv
from pathlib import Path

_FILES = {
    "training": (".csv", ("step", "seconds", "loss", "y_bpp", "z_bpp", "psnr", "skipped")),
    "valid": (".valid.csv", ("step", "seconds", "quality", "bpp", "psnr")),
    "branches": (".branches.csv", ("step", "branch", "output", "bend")),
}


class Log:
    """Three growing tables beside a checkpoint: training, valid and branches."""

    def __init__(self, checkpoint_path: Path) -> None:
        self._checkpoint_path = checkpoint_path

    def append(self, table: str, row: tuple[object, ...]) -> None:
        """Write a row, after the columns' names if it is the first."""
        suffix, columns = _FILES[table]
        path = self._checkpoint_path.with_name(self._checkpoint_path.name + suffix)
        is_new = not path.exists()
        with path.open("a", newline="") as handle:
            writer = csv.writer(handle, lineterminator="\n")
            if is_new:
                writer.writerow(columns)
            writer.writerow(row)
