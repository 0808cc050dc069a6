"""Hyperparameters of a training run, read from TOML and stored inside the weights."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from caecodec.config import AnyConfig, ClassicConfig, model_config_from
from caecodec.errors import ConfigError
from caecodec.nn.distortions import DISTORTIONS

CONFIGS = Path(__file__).parent / "configs"
OPTIMIZERS = ("adam", "sgd")
LOSSES = ("bce", "mse")
MIN_VISUAL_CROP = 128


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoopSettings:
    """What the training loop needs for any architecture.

    Attributes:
        batch_size: crops a step, over all processes.
        crop_size: side of the square crops, in pixels.
        warmup_steps: steps of linear rise of the learning rates.
        decay_from: part of the run after which the rates fall, linearly, to 0 at the end. With a
            later fall, more of a checkpoint's training is worth going on from.
        gradient_clip: largest norm of the whole gradient.
        ema_decay: decay of the averaged weights, which are the ones exported.
        flips: whether crops are flipped and transposed at random; right for photographs.
        shrink: every second crop is of a part of its image up to this many times larger each way,
            made smaller; 1 for none.
        valid_every: steps between validations.
        checkpoint_minutes: minutes between checkpoints.
        seed: of crops, qualities and random initial values.
    """

    batch_size: int = 8
    crop_size: int = 256
    warmup_steps: int = 100
    decay_from: float = 0.0
    gradient_clip: float = 1.0
    ema_decay: float = 0.999
    flips: bool = True
    shrink: float = 1.0
    valid_every: int = 1000
    checkpoint_minutes: float = 5.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("batch_size", "crop_size", "warmup_steps", "valid_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}, expected at least 1")
        if not self.shrink >= 1:
            raise ConfigError(f"shrink is {self.shrink}, expected at least 1")
        if not 0 <= self.decay_from < 1:
            raise ConfigError(f"decay_from is {self.decay_from}, expected from 0 to below 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class MainSettings(LoopSettings):
    """How to train the main architecture; crop_size is a multiple of 64.

    Attributes:
        matrix_learning_rate: peak rate of Muon (dense kernels).
        vector_learning_rate: peak rate of AdamW (depthwise kernels, biases, gains).
        prior_learning_rate: peak rate of AdamW on the priors and the scale head's offsets.
        linear_path_rate: part of these rates at which the linear path from pixels to latents and
            back learns: at a high quality its least movement shows in the image, so a resumed run,
            whose path is where it should be, gains by 0.1.
        dead_zones_from: part of the run after which y is rounded with dead zones, as files are made
            at the default effort; 1 for never.
        distortion: mse, or visual for a mean of it, SSIMULACRA2 and Butteraugli; crops are at least
            128 then.
        pca_crops: crops that the linear start is fitted to.
    """

    matrix_learning_rate: float = 2e-3
    vector_learning_rate: float = 1e-3
    prior_learning_rate: float = 5e-3
    linear_path_rate: float = 1.0
    dead_zones_from: float = 1.0
    distortion: str = "mse"
    pca_crops: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.crop_size % 64:
            raise ConfigError(f"crop_size is {self.crop_size}, expected a multiple of 64")
        _check_choice("distortion", self.distortion, tuple(DISTORTIONS))
        if self.distortion == "visual" and self.crop_size < MIN_VISUAL_CROP:
            raise ConfigError(
                f"crop_size is {self.crop_size}, expected at least {MIN_VISUAL_CROP} for a visual "
                "distortion, which looks at an image made 16 times smaller"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassicSettings(LoopSettings):
    """How to train the classic architecture; crop_size is a multiple of the model's stride.

    Attributes:
        optimizer: adam, or sgd with momentum 0.9.
        learning_rate: peak rate of the convolutions.
        prior_learning_rate: peak rate of the prior and of the gains by quality.
        loss: bce (binary cross-entropy) or mse, weighed against the rate by quality.
    """

    batch_size: int = 32
    crop_size: int = 64
    ema_decay: float = 0.99
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    prior_learning_rate: float = 5e-3
    loss: str = "bce"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_choice("optimizer", self.optimizer, OPTIMIZERS)
        _check_choice("loss", self.loss, LOSSES)
        for name in ("learning_rate", "prior_learning_rate"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is {getattr(self, name)}, expected a number above 0")


def _check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ConfigError(f"{name} is {value!r}, expected one of {', '.join(known)}")


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


def load_config(
    path: Path, *, model: Mapping[str, Any] | None = None, train: Mapping[str, Any] | None = None
) -> tuple[AnyConfig, LoopSettings]:
    """Read the tables [model] and [train] of a TOML file; what is left out keeps its default.

    Args:
        path: the file; `architecture` in [model] names the architecture, main without it.
        model: values that replace those of [model].
        train: values that replace those of [train].

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
    config = model_config_from({**values.get("model", {}), **(model or {})})
    settings = {**values.get("train", {}), **(train or {})}
    return config, _settings_from(
        settings, ClassicSettings if isinstance(config, ClassicConfig) else MainSettings
    )


def _settings_from(
    values: dict[str, Any], kind: type[MainSettings | ClassicSettings]
) -> LoopSettings:
    types = {field.name: type(field.default) for field in dataclasses.fields(kind)}
    for name, value in values.items():
        if name not in types:
            raise ConfigError(f"unknown train field {name!r}, expected one of {sorted(types)}")
        allowed = (int, float) if types[name] is float else types[name]
        is_bool = isinstance(value, bool)
        if is_bool != (types[name] is bool) or not isinstance(value, allowed):
            raise ConfigError(f"{name} is {value!r}, expected {types[name].__name__}")
    return kind(**values)
