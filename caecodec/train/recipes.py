"""What differs between the architectures in training: the start, and what moves the weights."""

from __future__ import annotations

import dataclasses
from operator import itemgetter
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from caecodec.config import AnyConfig, ClassicConfig, MainConfig
from caecodec.errors import ConfigError
from caecodec.nn.autoencoder import MainAutoencoder
from caecodec.nn.classic import ClassicAutoencoder
from caecodec.nn.distortions import DISTORTIONS, Distortion, cross_entropy, squared_error
from caecodec.nn.transforms import PrincipalComponents
from caecodec.train.data import Crops
from caecodec.train.muon import Muon
from caecodec.train.settings import ClassicSettings, LoopSettings, MainSettings

SGD_MOMENTUM = 0.9
_LOSSES: dict[str, Distortion] = {"bce": cross_entropy, "mse": squared_error}

_LINEAR_PATH = (
    "analysis.patch.", "analysis.gain.", "analysis.down.", "analysis.project.", "gain.",
    "inverse_gain.", "synthesis.project.", "synthesis.up.", "synthesis.gain.", "synthesis.patch.",
)  # fmt: skip
"""Prefixes of the parameters that pixels pass through undiminished."""

Model = TypeVar("Model")
Optimizers = list[torch.optim.Optimizer]


class Recipe(Protocol[Model]):
    """How one architecture is trained."""

    def build(self) -> Model:
        """Return the model, before its start."""
        ...

    def start(self, model: Model, images: list[Tensor]) -> None:
        """Set the weights that a new run starts from, in place."""
        ...

    def prepare(self, model: Model, fraction: float) -> None:
        """Set what changes during a run, at a part of it."""
        ...

    def optimizers(self, model: Model, device: torch.device) -> Optimizers:
        """Return the optimisers of all parameters, with the peak rate in each group."""
        ...


@dataclasses.dataclass(frozen=True)
class MainRecipe:
    """A linear start from principal components; Muon and AdamW."""

    config: MainConfig
    settings: MainSettings

    def build(self) -> MainAutoencoder:
        """Return the model with the loss's distortion, before its start."""
        model = MainAutoencoder(self.config)
        model.distortion_of = DISTORTIONS[self.settings.distortion]
        return model

    def start(self, model: MainAutoencoder, images: list[Tensor]) -> None:
        """Become the best linear transform codec of the images."""
        settings, cpu = self.settings, torch.device("cpu")
        crops = Crops(images, settings.crop_size, device=cpu, seed=settings.seed)
        model.start_linear(PrincipalComponents(crops.batch(settings.pca_crops), self.config))

    def prepare(self, model: MainAutoencoder, fraction: float) -> None:
        """Round y with dead zones in the last part of the run."""
        model.dead_zones = fraction >= self.settings.dead_zones_from

    def optimizers(self, model: MainAutoencoder, device: torch.device) -> Optimizers:
        """Give dense kernels to Muon and the rest to AdamW, the linear path apart."""
        settings, half = self.settings, bfloat16_is_native(device)
        rates = {
            "matrices": settings.matrix_learning_rate,
            "vectors": settings.vector_learning_rate,
            "priors": settings.prior_learning_rate,
        }
        groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
        for name, parameter in model.named_parameters():
            kind = "vectors"
            if parameter.ndim == 4 and parameter.shape[1] > 1:
                kind = "matrices"
            elif "prior" in name or "offset" in name:
                kind = "priors"
            groups.setdefault((kind, name.startswith(_LINEAR_PATH)), []).append(parameter)
        dense: list[dict[str, Any]] = []
        others: list[dict[str, Any]] = []
        for (kind, is_linear), parameters in sorted(groups.items(), key=itemgetter(0)):
            rate = rates[kind] * (settings.linear_path_rate if is_linear else 1)
            (dense if kind == "matrices" else others).append({"params": parameters, "lr": rate})
        muon = Muon(dense, half_precision=half)
        adamw = torch.optim.AdamW(others, betas=(0.9, 0.95), weight_decay=0.0)
        return _with_peaks([muon, adamw])


@dataclasses.dataclass(frozen=True)
class ClassicRecipe:
    """A random start; the textbook's optimiser and loss.

    Raises:
        ConfigError: crops that the model's stages cannot divide, or smaller than a kernel.
    """

    config: ClassicConfig
    settings: ClassicSettings

    def __post_init__(self) -> None:
        crop, stride = self.settings.crop_size, self.config.latent_stride
        if self.config.kernel_size > crop:
            raise ConfigError(
                f"kernel_size is {self.config.kernel_size}, expected at most crop_size, {crop}"
            )
        if crop % stride:
            raise ConfigError(
                f"crop_size is {crop}, expected a multiple of {stride}, the pixels per latent "
                "position of this model; smaller images are padded"
            )

    def build(self) -> ClassicAutoencoder:
        """Return the model with the loss's distortion, before its start."""
        model = ClassicAutoencoder(self.config)
        model.distortion_of = _LOSSES[self.settings.loss]
        return model

    def start(self, model: ClassicAutoencoder, images: list[Tensor]) -> None:
        """Start at random.

        Raises:
            ConfigError: a kernel larger than every image.
        """
        largest = max(max(image.shape[1:]) for image in images)
        if self.config.kernel_size > largest:
            raise ConfigError(
                f"kernel_size is {self.config.kernel_size}, expected at most {largest}, "
                "the side of the largest image"
            )
        model.start_random()

    def prepare(self, model: ClassicAutoencoder, fraction: float) -> None:
        """Leave the model as it is: nothing changes during a run."""

    def optimizers(self, model: ClassicAutoencoder, device: torch.device) -> Optimizers:  # noqa: ARG002
        """Return one optimiser of two groups: convolutions, and what goes by quality."""
        kernels: list[nn.Parameter] = []
        tables: list[nn.Parameter] = []
        for name, parameter in model.named_parameters():
            (tables if name.endswith("values") else kernels).append(parameter)
        groups: list[dict[str, Any]] = [
            {"params": kernels, "lr": self.settings.learning_rate},
            {"params": tables, "lr": self.settings.prior_learning_rate},
        ]
        if self.settings.optimizer == "sgd":
            return _with_peaks([torch.optim.SGD(groups, momentum=SGD_MOMENTUM)])
        return _with_peaks([torch.optim.Adam(groups)])


def recipe_for(config: AnyConfig, settings: LoopSettings) -> Recipe[Any]:
    """Return the recipe of a configuration.

    Raises:
        ConfigError: settings of another architecture, or that do not suit the model.
    """
    if isinstance(config, ClassicConfig) and isinstance(settings, ClassicSettings):
        return ClassicRecipe(config, settings)
    if isinstance(config, MainConfig) and isinstance(settings, MainSettings):
        return MainRecipe(config, settings)
    raise ConfigError(f"{type(settings).__name__} does not fit {type(config).__name__}")


def bfloat16_is_native(device: torch.device) -> bool:
    """Return whether a device computes in bfloat16 without emulation."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()  # noqa: SLF001


def _with_peaks(optimizers: Optimizers) -> Optimizers:
    """Remember each group's peak rate, which the schedule scales."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return optimizers
