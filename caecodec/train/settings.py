"""Hyperparameters of a training run, read from TOML and stored inside the weights."""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path
from typing import Any

from caecodec.config import ModelConfig, model_config_from
from caecodec.errors import ConfigError

CONFIGS = Path(__file__).parent / "configs"


@dataclasses.dataclass(frozen=True)
class TrainSettings:
    """How to train.

    Attributes:
        batch_size: crops a step, over all processes.
        crop_size: side of the square crops, in pixels; a multiple of 64.
        matrix_learning_rate: peak rate of Muon (dense kernels).
        vector_learning_rate: peak rate of AdamW (depthwise kernels, biases, gains).
        prior_learning_rate: peak rate of AdamW on the priors and the scale head's offsets.
        warmup_steps: steps of linear rise; then the rate falls linearly to 0 at the end.
        gradient_clip: largest norm of the whole gradient.
        dead_zones_from: part of the run after which y is rounded with dead zones, as files are made
            at the default effort; 1 for never.
        ema_decay: decay of the averaged weights, which are the ones exported.
        pca_crops: crops that the linear start is fitted to.
        valid_every: steps between validations.
        checkpoint_minutes: minutes between checkpoints.
        seed: of crops, qualities and random initial values.
    """

    batch_size: int = 8
    crop_size: int = 256
    matrix_learning_rate: float = 2e-3
    vector_learning_rate: float = 1e-3
    prior_learning_rate: float = 5e-3
    warmup_steps: int = 100
    gradient_clip: float = 1.0
    dead_zones_from: float = 1.0
    ema_decay: float = 0.999
    pca_crops: int = 256
    valid_every: int = 1000
    checkpoint_minutes: float = 5.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.crop_size < 64 or self.crop_size % 64:
            raise ConfigError(f"crop_size is {self.crop_size}, expected a multiple of 64")
        if self.batch_size < 1:
            raise ConfigError(f"batch_size is {self.batch_size}, expected at least 1")


def find_config(name: str) -> Path:
    """Return the file of a configuration: a path, or the name of one in this package.

    Raises:
        ConfigError: neither.
    """
    path = CONFIGS / f"{name}.toml"
    if path.exists():
        return path
    if Path(name).suffix == ".toml":
        return Path(name)
    known = ", ".join(sorted(path.stem for path in CONFIGS.glob("*.toml")))
    raise ConfigError(f"no configuration {name!r}, expected a .toml file or one of {known}")


def load_config(path: Path) -> tuple[ModelConfig, TrainSettings]:
    """Read the tables [model] and [train] of a TOML file; what is left out keeps its default.

    Raises:
        ConfigError: no such file, not TOML, an unknown field, or a value out of range.
    """
    try:
        values = tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    unknown = sorted(set(values) - {"model", "train"})
    if unknown:
        raise ConfigError(f"unknown table {unknown[0]!r} in {path}, expected [model] and [train]")
    return model_config_from(values.get("model", {})), _settings_from(values.get("train", {}))


def _settings_from(values: dict[str, Any]) -> TrainSettings:
    types = {field.name: type(field.default) for field in dataclasses.fields(TrainSettings)}
    for name, value in values.items():
        if name not in types:
            raise ConfigError(f"unknown train field {name!r}, expected one of {sorted(types)}")
        if isinstance(value, bool) or not isinstance(value, (types[name], int)):
            raise ConfigError(f"{name} is {value!r}, expected {types[name].__name__}")
    return TrainSettings(**values)
