"""Wide branches that are straight lines, folded into the layers around them when weights load.

Where a block's wide branch sees SiLU only where it is straight, it adds A x + c. Written in another
frame, x = P v + p, the features v need not change there: the frame does, and the 1x1 convolutions
that read and write them take it over. The same pixels, for a third of such a block's multiplies.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from caecodec.config import MAX_QUALITY
from caecodec.nn.autoencoder import MainAutoencoder
from caecodec.nn.layers import Block, bias_of

SYNTHESIS_ERROR = 1e-4
"""Root mean square by which a line may miss a branch of the synthesis, whose features are on the
scale of x: a fortieth of a level in the image."""
ANALYSIS_ERROR = 1e-3
"""The same in the analysis: a thirtieth of the finest quantiser step."""
MAX_CONDITION = 100.0
"""Largest condition number of I + slope, in the 1-norm: frames stay far from singular."""
CARD_SIDE = 128
CARD_QUALITIES = (0.0, MAX_QUALITY)


class Line(NamedTuple):
    """What a branch adds to features x (C,): slope x + offset, in float64."""

    slope: Tensor
    offset: Tensor


class Frame(NamedTuple):
    """Features x (C,) are basis v + origin, in float64."""

    basis: Tensor
    origin: Tensor

    def read_by_(self, convolution: nn.Conv2d) -> None:
        """Let a 1x1 convolution of x take v, in place."""
        weight = _matrix(convolution)
        _set(convolution, weight @ self.basis, _bias(convolution) + weight @ self.origin)

    def written_by_(self, convolution: nn.Conv2d, *, is_branch: bool = True) -> None:
        """Let a convolution that writes x, or with `is_branch` adds to it, do so to v, in place."""
        bias = _bias(convolution)
        if not is_branch:
            bias = bias - self.origin
        _set(
            convolution,
            torch.linalg.solve(self.basis, _matrix(convolution)),
            torch.linalg.solve(self.basis, bias),
        )


@torch.no_grad()
def fold(model: MainAutoencoder) -> None:
    """Fold the straight branches of both transforms, in place.

    What the branches see is taken from a test card. A model that was trained without idle branches
    stays as it is, and so does one with tables in its blocks, which hold in one frame alone.
    """
    if model.config.decoder_wide is not None or model.config.block_tables:
        return
    analysis, synthesis = model.analysis, model.synthesis
    parts = [
        [block for block in blocks if isinstance(block, Block)]
        for blocks in (
            *(analysis.blocks, analysis.latent_blocks),
            *(synthesis.latent_blocks, synthesis.blocks),
        )
    ]
    with _watching([block for blocks in parts for block in blocks]) as inputs:
        quality = torch.tensor(CARD_QUALITIES)
        y = model.analyze(test_card().expand(len(quality), -1, -1, -1), quality)
        model.synthesize(y.round(), quality)
    stem, coarse, latent, fine = parts
    _fold_into_entry(analysis.patch, stem, _lines(stem, inputs, ANALYSIS_ERROR))
    _fold_into_entry(analysis.down, coarse, _lines(coarse, inputs, ANALYSIS_ERROR))
    _fold_into_exit(latent, synthesis.up, _lines(latent, inputs, SYNTHESIS_ERROR))
    _fold_into_exit(fine, synthesis.patch, _lines(fine, inputs, SYNTHESIS_ERROR))


def test_card() -> Tensor:
    """Return x (1, 3, CARD_SIDE, CARD_SIDE) in [0, 1]: edges and texture of all sizes."""
    random = torch.Generator().manual_seed(0)
    card = torch.zeros(1, 3, CARD_SIDE, CARD_SIDE)
    side = 2
    while side <= CARD_SIDE:
        grain = torch.randn((1, 3, side, side), generator=random)
        card += functional.interpolate(grain, size=(CARD_SIDE, CARD_SIDE))
        side *= 2
    return (0.5 + 0.07 * card).clamp(0, 1)


@contextmanager
def _watching(blocks: Sequence[Block]) -> Iterator[dict[Block, list[Tensor]]]:
    """Collect what the wide branches of blocks are given, as rows (n, C)."""
    inputs: dict[Block, list[Tensor]] = {block: [] for block in blocks}
    handles = [
        block.expand.register_forward_pre_hook(
            lambda _, given, own=inputs[block]: own.append(_rows(given[0]).clone())
        )
        for block in blocks
        if block.expand is not None
    ]
    try:
        yield inputs
    finally:
        for handle in handles:
            handle.remove()


def _lines(
    blocks: list[Block], inputs: dict[Block, list[Tensor]], max_error: float
) -> list[Line | None]:
    return [_line(block, inputs[block], max_error) for block in blocks]


def _line(block: Block, given: list[Tensor], max_error: float) -> Line | None:
    """Return the line of a wide branch, or None if it misses by more than `max_error`."""
    expand, contract = block.expand, block.contract
    if expand is None or contract is None or not given:
        return None
    before = torch.cat(given).double() @ _matrix(expand).T + _bias(expand)  # (n, 2C)
    after = block.activate(before.clone())
    variance, mean = torch.var_mean(before, 0, correction=0)
    slope = ((before - mean) * after).mean(0) / variance.clamp(min=1e-12)
    offset = after.mean(0) - slope * mean
    weight = _matrix(contract)
    missed = (after - before * slope - offset) @ weight.T
    line = Line(
        weight @ (slope[:, None] * _matrix(expand)),
        weight @ (slope * _bias(expand) + offset) + _bias(contract),
    )
    is_straight = missed.square().mean().sqrt() <= max_error
    return line if is_straight and _condition(line) <= MAX_CONDITION else None


def _condition(line: Line) -> float:
    """Return by how much a change of frame may enlarge what is lost to rounding."""
    return torch.linalg.cond(_grown(line), 1).item()


def _grown(line: Line) -> Tensor:
    """Return the matrix of x -> x + slope x."""
    return line.slope + torch.eye(len(line.offset)).double()


def _fold_into_entry(entry: nn.Conv2d, blocks: list[Block], lines: list[Line | None]) -> None:
    """Fold lines into the blocks before them and into the convolution that the blocks follow."""
    if not any(lines):
        return
    frames = [_start(entry.out_channels)]
    for line in reversed(lines):
        basis, origin = frames[-1]
        if line is not None:
            grown = _grown(line)
            basis = torch.linalg.solve(grown, basis)
            origin = torch.linalg.solve(grown, origin - line.offset)
        frames.append(Frame(basis, origin))
    frames.reverse()
    frames[0].written_by_(entry, is_branch=False)
    _reframe(blocks, lines, frames)


def _fold_into_exit(blocks: list[Block], exit_: nn.Conv2d, lines: list[Line | None]) -> None:
    """Fold lines into the blocks after them and into the convolution that follows the blocks."""
    if not any(lines):
        return
    frames = [_start(exit_.in_channels)]
    for line in lines:
        basis, origin = frames[-1]
        if line is not None:
            basis = _grown(line) @ basis
            origin = _grown(line) @ origin + line.offset
        frames.append(Frame(basis, origin))
    _reframe(blocks, lines, frames)
    frames[-1].read_by_(exit_)


def _reframe(blocks: list[Block], lines: list[Line | None], frames: list[Frame]) -> None:
    """Let blocks work on features in the frames before them, and drop those that became lines."""
    for block, line, frame in zip(blocks, lines, frames[:-1], strict=True):
        frame.read_by_(block.mix_in)
        frame.written_by_(block.mix_out)
        if line is not None:
            block.drop_wide()
        elif block.expand is not None and block.contract is not None:
            frame.read_by_(block.expand)
            frame.written_by_(block.contract)


def _start(channels: int) -> Frame:
    return Frame(torch.eye(channels).double(), torch.zeros(channels).double())


def _rows(x: Tensor) -> Tensor:
    """(B, C, h, w) -> (B h w, C)."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def _matrix(convolution: nn.Conv2d) -> Tensor:
    """Return the kernel as float64 (out, in * kh * kw)."""
    return convolution.weight.double().flatten(1)


def _bias(convolution: nn.Conv2d) -> Tensor:
    return bias_of(convolution).double()


def _set(convolution: nn.Conv2d, weight: Tensor, bias: Tensor) -> None:
    convolution.weight.copy_(weight.reshape(convolution.weight.shape))
    bias_of(convolution).copy_(bias)
