"""Checkpoints: everything that resuming a run needs, written whole or not at all."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import torch

from caecodec.errors import ModelError, first_line


@dataclasses.dataclass
class Checkpoint:
    """The state of a run.

    Attributes:
        model_config, settings: the run's configuration as plain dicts.
        model, average: state dicts of the raw and the averaged weights.
        optimizers: state dicts, in the trainer's order.
        step: optimiser steps done, the skipped ones included.
        seconds: time spent training.
        skipped: steps left out for a gradient that was not finite.
    """

    model_config: dict[str, Any]
    settings: dict[str, Any]
    model: dict[str, Any]
    average: dict[str, Any]
    optimizers: list[dict[str, Any]]
    step: int
    seconds: float
    skipped: int

    def save(self, path: Path) -> None:
        """Write beside the target, then rename."""
        temporary = path.with_name(path.name + ".partial")
        torch.save(vars(self), temporary)
        os.replace(temporary, path)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; only tensors and plain values are accepted, never code.

    Raises:
        ModelError: no such file, or not a checkpoint of this version.
    """
    try:
        return Checkpoint(**torch.load(path, map_location="cpu", weights_only=True))
    except FileNotFoundError as error:
        raise ModelError(f"no checkpoint {path}: train without --resume first") from error
    except Exception as error:  # torch.load raises many kinds on bytes that are not its own
        raise ModelError(f"{path} is not a caecodec checkpoint: {first_line(error)}") from error
