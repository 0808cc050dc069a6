"""The analysis and synthesis transforms (g_a, g_s) and their start as a transform codec."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from caecodec.config import PATCH, MainConfig
from caecodec.format.grid import Region
from caecodec.nn.layers import Blocks, Fp32Conv2d, QualityTable, Slab, bias_of

PATCH_VALUES = 3 * PATCH * PATCH


class AnalysisTransform(nn.Module):
    """g_a: image to latent, not yet scaled by the quality's gain.

    x ─ unshuffle 8 ─ 1x1 ─ Blocks(C) ─ ×gain(quality) ─ 2x2 stride 2 ─ Blocks(M) ─ 1x1 ─ y
    """

    def __init__(self, config: MainConfig) -> None:
        super().__init__()
        width, latent = config.channels, config.latent_channels
        self.patch = Fp32Conv2d(PATCH_VALUES, width, 1)
        self.blocks = _blocks(config, "encoder_blocks", width)
        self.gain = QualityTable(config.quality_anchors, width)
        self.down = Fp32Conv2d(width, latent, 2, stride=2)
        self.latent_blocks = _blocks(config, "latent_blocks", latent)
        self.project = Fp32Conv2d(latent, latent, 1)

    @property
    def halo(self) -> int:
        """Latent positions around a tile that its latents depend on."""
        return len(self.latent_blocks) + _coarse(len(self.blocks))

    def stem(self, x: Tensor) -> Tensor:
        """Map x (B, 3, H, W) in [0, 1], H and W multiples of 16, to features (B, C, H/8, W/8).

        This is the part that no quality changes.
        """
        h: Tensor = self.blocks(self.patch(functional.pixel_unshuffle(x, PATCH)))
        return h

    def finish(self, stem: Tensor, quality: Tensor, inner: Region | None = None) -> Tensor:
        """Map the features of `stem` to (B, M, H/16, W/16), or to the positions `inner` of it.

        The halo around them is dropped as soon as no layer ahead reaches it.
        """
        whole = Region(0, 0, stem.shape[-2] // 2, stem.shape[-1] // 2)
        inner = inner or whole
        reached = inner.grown(len(self.latent_blocks), whole)
        h = _cut(stem, reached.scaled(2), whole.scaled(2)) * self.gain.factors(quality)
        h = self.latent_blocks(self.down(h))  # (B, M, h, w) of `reached`
        y: Tensor = self.project(_cut(h, inner, reached))
        return y


class SynthesisTransform(nn.Module):
    """g_s: latent, with the gain undone, to image.

    y_hat ─ 1x1 ─ Blocks(M) ─ 1x1 ─ shuffle 2 ─ ×gain(quality) ─ Blocks(C) ─ 1x1 ─ shuffle 8 ─ x_hat
    """

    def __init__(self, config: MainConfig) -> None:
        super().__init__()
        width, latent = config.channels, config.latent_channels
        self.project = Fp32Conv2d(latent, latent, 1)
        self.latent_blocks = _blocks(
            config, "latent_blocks", latent, has_tables=config.block_tables
        )
        self.up = Fp32Conv2d(latent, 4 * width, 1)
        self.gain = QualityTable(config.quality_anchors, width)
        self.blocks = _blocks(config, "decoder_blocks", width, has_tables=config.block_tables)
        self.patch = Fp32Conv2d(width, PATCH_VALUES, 1)

    @property
    def halo(self) -> int:
        """Latent positions around a tile that its pixels depend on."""
        return len(self.latent_blocks) + _coarse(len(self.blocks))

    def forward(self, y_hat: Tensor, quality: Tensor, inner: Region | None = None) -> Tensor:
        """Map (B, M, H/16, W/16) to x_hat (B, 3, H, W), not clamped.

        Args:
            y_hat: latents, the gain undone.
            quality: (B,) in [0, 100].
            inner: the positions of y_hat whose pixels are wanted, or None for all. The halo around
                them is dropped as soon as no layer ahead reaches it.
        """
        whole = Region(0, 0, *y_hat.shape[-2:])
        inner = inner or whole
        reached = inner.grown(_coarse(len(self.blocks)), whole)
        h = self.up(_cut(self.latent_blocks(self.project(y_hat), quality), reached, whole))
        h = functional.pixel_shuffle(h, 2)  # (B, C, H/8, W/8)
        inner, whole = inner.scaled(2), reached.scaled(2)
        reached = inner.grown(len(self.blocks), whole)
        h = self.blocks(_cut(h, reached, whole) * self.gain.factors(quality), quality)
        h = self.patch(h)
        return functional.pixel_shuffle(_cut(h, inner, reached), PATCH)

    def stream(self, slabs: Iterable[Slab], quality: Tensor, dim: int) -> Iterator[Tensor]:
        """Yield what `forward` makes of y_hat, slab by slab, without gradients.

        No position is computed twice, and a slab is small enough to stay in cache from layer to
        layer. All but the last end `halo` positions early or less; the first must have more.

        Args:
            slabs: of y_hat along `dim`.
            quality: (1,) in [0, 100].
            dim: -2, rows, or -1, columns.
        """
        gain = self.gain.factors(quality)
        slabs = (Slab(self.project(y_hat), is_last) for y_hat, is_last in slabs)
        slabs = self.latent_blocks.stream(slabs, dim, quality)
        slabs = (
            Slab(functional.pixel_shuffle(self.up(h), 2) * gain, is_last) for h, is_last in slabs
        )
        slabs = self.blocks.stream(slabs, dim, quality)
        return (functional.pixel_shuffle(self.patch(h), PATCH) for h, _ in slabs)


def _blocks(config: MainConfig, name: str, width: int, *, has_tables: bool = False) -> Blocks:
    """Return the blocks that a size of the configuration counts."""
    return Blocks(
        width,
        getattr(config, name),
        wide=config.num_wide(name),
        activation=config.activation,
        anchors=config.quality_anchors if has_tables else 0,
    )


def _coarse(positions: int) -> int:
    """Return the positions at 1/16 that hold so many at 1/8."""
    return -(-positions // 2)


def _cut(h: Tensor, part: Region, whole: Region) -> Tensor:
    """Return the features of `part` out of those of `whole`."""
    own = part.within(whole)
    return h[..., own.rows, own.columns]


class PrincipalComponents:
    """The best linear transform codec of a set of images: PCA of 8x8 patches, then of 2x2 cells.

    Attributes:
        patch_mean: (192,) mean patch, pixel_unshuffle order.
        patch_basis: (192, C) orthonormal columns, by falling variance.
        cell_basis: (4C, M) orthonormal columns over [4 k + 2 dy + dx].
        latent_std: (M,) standard deviation of each coefficient, in units of x.
    """

    def __init__(self, images: Tensor, config: MainConfig) -> None:
        """Fit to images (B, 3, H, W) in [0, 1], H and W multiples of 16."""
        patches = functional.pixel_unshuffle(images, PATCH)  # (B, 192, h, w)
        self.patch_mean, self.patch_basis, _ = _fit(patches, config.channels)
        coefficients = torch.einsum(
            "bkhw,kc->bchw", patches - self.patch_mean[:, None, None], self.patch_basis
        )
        cells = functional.pixel_unshuffle(coefficients, 2)  # (B, 4C, h/2, w/2)
        _, self.cell_basis, self.latent_std = _fit(cells, config.latent_channels)

    def start(self, analysis: AnalysisTransform, synthesis: SynthesisTransform) -> None:
        """Write the linear path into both transforms, in place."""
        latent = self.cell_basis.shape[1]
        width = self.patch_basis.shape[1]
        with torch.no_grad():
            for parameter in (*analysis.parameters(), *synthesis.parameters()):
                if parameter.dtype != torch.float32:
                    raise TypeError("the linear start needs float32 parameters")
            _set(analysis.patch, self.patch_basis.T, -self.patch_basis.T @ self.patch_mean)
            _set(synthesis.patch, self.patch_basis, self.patch_mean)
            _set(analysis.down, self.cell_basis.T.reshape(latent, width, 2, 2))
            _set(synthesis.up, self.cell_basis)
            _set(analysis.project, torch.eye(latent))
            _set(synthesis.project, torch.eye(latent))


def _fit(x: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean (K,), the first components (K, count), their standard deviations (count,)."""
    rows = x.double().permute(0, 2, 3, 1).reshape(-1, x.shape[1])
    mean = rows.mean(0)
    variances, basis = torch.linalg.eigh(torch.cov(rows.T))
    order = variances.argsort(descending=True)[:count]
    basis = basis[:, order]
    std = variances[order].clamp(min=1e-12).sqrt()
    missing = count - basis.shape[1]  # more channels than values: the rest starts unused
    return (
        mean.float(),
        functional.pad(basis, (0, missing)).float(),
        functional.pad(std, (0, missing), value=1e-6).float(),
    )


def _set(convolution: nn.Conv2d, weight: Tensor, bias: Tensor | None = None) -> None:
    convolution.weight.copy_(weight.reshape(convolution.weight.shape))
    bias_of(convolution).copy_(torch.zeros(len(weight)) if bias is None else bias)
