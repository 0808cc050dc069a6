"""From a weights file back to a model that trains: `export` in reverse.

Networks are stored in float16 and the scale head in fixed point, which training does not miss. The
priors are not stored: they follow from the CDF tables, roughly, and training finds them again.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caecodec.config import NUM_SCALES
from caecodec.errors import ModelError
from caecodec.format.tables import MAX_REACH, coder_probabilities
from caecodec.nn.architectures import Autoencoder, build_model
from caecodec.nn.autoencoder import MainAutoencoder
from caecodec.nn.classic import ClassicAutoencoder
from caecodec.nn.entropy_models import MIN_LIKELIHOOD, Z_BOUND, FactorizedPrior, ResidualPrior
from caecodec.nn.exact import thaw_scale_head
from caecodec.nn.exact_layers import without_exact
from caecodec.nn.inference_main import FrozenMain
from caecodec.train.activation_fit import fit_hardswish_
from caecodec.weights.storage import Weights

CHANGES_AT_START = ("activation", "block_tables", "decoder_wide")
"""What may differ between a weights file and the model that starts from it, blocks aside."""
FIT_STEPS = 200
FIT_RATE = 0.05
LOGISTIC_SCALE = 3**0.5 / np.pi
"""Scale of a logistic distribution of standard deviation 1."""
LEAST_SCALE = 0.1
"""A channel that always rounds to one symbol still varies before it is rounded."""
TINY = 1e-12


def thaw(model: Autoencoder, weights: Weights) -> None:
    """Put a weights file into a float model of its architecture, in place.

    Args:
        model: of the weights' configuration, or of one with more blocks, which stay as they are,
            with less wide branches, where those left out are straight lines, with tables in its
            blocks, or with hardswish for SiLU, which is about the same.
        weights: as `export` wrote them.

    Raises:
        ModelError: the weights do not fit their own configuration, or need a branch that the model
            has not.
    """
    is_lean = model.config.to_dict().get("decoder_wide") != weights.config.to_dict().get(
        "decoder_wide"
    )
    frozen = build_model(weights.config, without_exact(weights.tensors), folded=is_lean)
    state = frozen.networks.state_dict()
    bent = sorted(state.keys() - model.state_dict().keys())
    if bent:
        raise ModelError(f"{bent[0]} is part of no straight line: the model needs more wide blocks")
    model.load_state_dict(state, strict=False)
    counts = weights.tables().counts
    if isinstance(model, MainAutoencoder) and isinstance(frozen, FrozenMain):
        if model.config.activation != frozen.config.activation:
            fit_hardswish_(model)
        thaw_scale_head(frozen.scale_head, model.scale_head)
        _fit_residual(model.residual_prior, counts[1:NUM_SCALES])
        _set_factorized(model.hyper_prior, counts[NUM_SCALES:], Z_BOUND)
    elif isinstance(model, ClassicAutoencoder):
        _set_factorized(model.prior, counts[1:], MAX_REACH)


def _fit_residual(prior: ResidualPrior, counts: Sequence[NDArray[np.int64]]) -> None:
    """Fit the prior of y to its tables' magnitudes above 1.

    Zeros and ones are counted with dead zones, which the prior does not know.
    """
    residuals, masses = _masses(counts, MAX_REACH)
    masses = masses * (residuals.abs() > 1)
    masses = masses / masses.sum(1, keepdim=True).clamp(min=TINY)
    indexes = torch.arange(1.0, NUM_SCALES)[:, None].expand_as(masses)

    optimizer = torch.optim.Adam(prior.parameters(), lr=FIT_RATE)
    for _ in range(FIT_STEPS):
        likelihood = prior.likelihood(residuals, indexes) * (residuals.abs() > 1)
        share = likelihood / likelihood.sum(1, keepdim=True).clamp(min=TINY)
        loss = -(masses * share.clamp(min=MIN_LIKELIHOOD).log2()).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def _set_factorized(
    prior: FactorizedPrior, counts: Sequence[NDArray[np.int64]], bound: int
) -> None:
    """Give a factorised prior the means and deviations of its tables, one anchor after another."""
    values, masses = _masses(counts, bound)
    mean = (masses * values).sum(1)
    variance = (masses * values.square()).sum(1) - mean.square()
    scale = variance.clamp(min=0).sqrt() * LOGISTIC_SCALE
    shape = prior.location.values.shape
    with torch.no_grad():
        prior.location.values.copy_(mean.reshape(shape))
        prior.log_scale.values.copy_(scale.clamp(min=LEAST_SCALE).log().reshape(shape))


def _masses(counts: Sequence[NDArray[np.int64]], bound: int) -> tuple[Tensor, Tensor]:
    """Return the symbols (2 bound + 1,) and their probabilities by table, escapes left out."""
    masses = torch.zeros(len(counts), 2 * bound + 1)
    for row, table in zip(masses, counts, strict=True):
        reach = len(table) // 2 - 1
        inside = coder_probabilities(table)[:-1]
        row[bound - reach : bound + reach + 1] = torch.from_numpy(inside).float()
    return torch.arange(-bound, bound + 1).float(), masses
