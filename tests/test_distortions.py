"""The visual distortion, against the metrics that it takes after."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from make_golden import CONFIG, PHOTO, SETTINGS, synthetic_image
from PIL import Image, ImageFilter
from pytorch_msssim import ms_ssim
from ssimulacra2 import compute_ssimulacra2

from caecodec.errors import ConfigError
from caecodec.nn.butteraugli import NUM_LINES, butteraugli_norm
from caecodec.nn.distortions import (
    IN_TRAINING,
    Distortion,
    refined_visual,
    squared_error,
    visual,
)
from caecodec.nn.ms_ssim import ms_ssim_loss
from caecodec.nn.ssimulacra2 import ssimulacra2_score, ssimulacra2_sum
from caecodec.train.settings import MainSettings
from caecodec.train.trainer import Budget, Trainer

pytestmark = pytest.mark.slow
Measure = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
measured = pytest.mark.parametrize("measure", [ssimulacra2_sum, butteraugli_norm, ms_ssim_loss])


def tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[None] / 255


def coded(codec: str, quality: int) -> tuple[Image.Image, Image.Image]:
    """Return the photograph, and what a codec makes of it."""
    with Image.open(PHOTO) as photo:
        original = photo.convert("RGB")
    stream = io.BytesIO()
    original.save(stream, codec, quality=quality)
    with Image.open(stream) as image:
        return original, image.convert("RGB")


def score(image: torch.Tensor, other: torch.Tensor) -> float:
    return ssimulacra2_score(ssimulacra2_sum(image, other)).item()


@pytest.mark.parametrize(
    ("codec", "quality"), [("JPEG", 15), ("JPEG", 60), ("JPEG", 95), ("AVIF", 25), ("AVIF", 75)]
)
def test_the_score_is_within_1_of_the_reference_implementation(
    codec: str, quality: int, tmp_path: Path
) -> None:
    original, distorted = coded(codec, quality)
    for name, image in (("a", original), ("b", distorted)):
        image.save(tmp_path / f"{name}.png")
    expected = compute_ssimulacra2(str(tmp_path / "a.png"), str(tmp_path / "b.png"))
    assert score(tensor(original), tensor(distorted)) == pytest.approx(expected, abs=1)


@pytest.mark.parametrize(
    ("codec", "quality", "expected"),
    [
        ("JPEG", 15, 3.210),
        ("JPEG", 60, 1.368),
        ("JPEG", 95, 0.467),
        ("AVIF", 25, 3.296),
        ("AVIF", 75, 0.800),
    ],
)
def test_the_norm_is_near_that_of_libjxls_tool(codec: str, quality: int, expected: float) -> None:
    """Expected are 3-norms by butteraugli_main of libjxl 0.7."""
    original, distorted = coded(codec, quality)
    pair = tensor(original), tensor(distorted)
    assert butteraugli_norm(*pair, range(NUM_LINES)).item() == pytest.approx(expected, rel=0.1)
    assert butteraugli_norm(*pair).item() == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize(("way", "expected"), [("blurred", 1.794), ("noisy", 2.792)])
def test_errors_hide_where_the_original_is_busy(way: str, expected: float) -> None:
    """The norm is libjxl's for images less and more busy than the original, too."""
    with Image.open(PHOTO) as photo:
        original = photo.convert("RGB")
    if way == "blurred":
        distorted = original.filter(ImageFilter.GaussianBlur(1))
    else:
        shape = (original.height, original.width, 1)
        noisy = np.array(original) + np.random.default_rng(0).normal(0, 6, shape)
        distorted = Image.fromarray(noisy.round().clip(0, 255).astype(np.uint8))
    norm = butteraugli_norm(tensor(original), tensor(distorted), range(NUM_LINES)).item()
    assert norm == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("size", [(512, 768), (171, 333)])
def test_ms_ssim_is_that_of_the_reference_implementation(size: tuple[int, int]) -> None:
    original, distorted = coded("JPEG", 15)
    x, x_hat = (tensor(image)[..., : size[0], : size[1]] for image in (original, distorted))
    expected = 1 - ms_ssim(x_hat, x, data_range=1.0).item()
    assert ms_ssim_loss(x, x_hat).item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("side", [160, 40, 11, 10, 1])
def test_small_images_have_fewer_scales_of_ms_ssim(side: int) -> None:
    x = torch.rand((1, 3, side, 200), generator=torch.Generator().manual_seed(0))
    loss = ms_ssim_loss(x, 1 - x).item()
    assert 0 < loss <= 1 if side > 10 else loss == 0


@pytest.mark.parametrize("distortion", [visual, refined_visual])
def test_the_distortion_of_one_image_is_the_same_each_time(distortion: Distortion) -> None:
    x = torch.rand((1, 3, 128, 128), generator=torch.Generator().manual_seed(0))
    x_hat = (x + 0.03).clamp(0, 1)
    assert torch.equal(distortion(x_hat, x), distortion(x_hat, x))


@measured
def test_equal_images_hardly_differ_and_have_finite_gradients(measure: Measure) -> None:
    x = torch.from_numpy(synthetic_image(128, 112, 1)).permute(2, 0, 1)[None] / 255
    x_hat = x.clone().requires_grad_()
    difference = measure(x, x_hat)
    difference.sum().backward()
    assert difference.item() < 0.01
    assert x_hat.grad is not None
    assert x_hat.grad.isfinite().all()


def test_equal_images_score_100() -> None:
    x = torch.from_numpy(synthetic_image(128, 112, 1)).permute(2, 0, 1)[None] / 255
    assert score(x, x) == pytest.approx(100, abs=0.5)


@measured
def test_each_image_of_a_batch_differs_by_itself(measure: Measure) -> None:
    random = torch.Generator().manual_seed(0)
    x = torch.rand((3, 3, 128, 128), generator=random)
    x_hat = (x + torch.tensor([0.01, 0.03, 0.1])[:, None, None, None]).clamp(0, 1)
    together = measure(x, x_hat)
    alone = [measure(*pair) for pair in zip(x[:, None], x_hat[:, None], strict=True)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-3, atol=1e-4)
    assert together.diff().min() > 0


@measured
def test_a_step_against_the_gradient_looks_better(measure: Measure) -> None:
    x = torch.from_numpy(synthetic_image(128, 128, 2)).permute(2, 0, 1)[None] / 255
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    x_hat = (x + 0.05 * noise).requires_grad_()
    before = measure(x, x_hat)
    before.sum().backward()
    assert x_hat.grad is not None
    step = 0.01 * x_hat.grad / x_hat.grad.square().mean().sqrt()
    with torch.no_grad():
        assert measure(x, x_hat - step).item() < before.item()


def test_mixed_precision_does_not_touch_the_sum() -> None:
    x = torch.from_numpy(synthetic_image(128, 128, 2)).permute(2, 0, 1)[None] / 255
    x_hat = (x + 0.01).requires_grad_()
    sums, gradients = [], []
    for is_mixed in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=is_mixed):
            total = ssimulacra2_sum(x, x_hat)
        sums.append(total)
        gradients += torch.autograd.grad(total.sum(), x_hat)
    assert torch.equal(*sums)
    assert torch.equal(*gradients)


def test_parts_of_a_batch_stand_for_all_of_it() -> None:
    random = torch.Generator().manual_seed(0)
    x = torch.rand((4, 3, 192, 160), generator=random)
    x_hat = (x + 0.05 * torch.randn(x.shape, generator=random)).clamp(0, 1)
    whole = torch.stack([visual(*pair) for pair in zip(x_hat[:, None], x[:, None], strict=True)])
    torch.manual_seed(0)
    drawn = torch.stack([visual(x_hat, x).mean() for _ in range(8)])
    assert drawn.mean().item() == pytest.approx(whole.mean().item(), rel=0.1)


def test_the_visual_distortion_is_partly_the_squared_error() -> None:
    x = torch.rand((2, 3, 128, 128), generator=torch.Generator().manual_seed(0))
    x_hat = (x + 0.03).clamp(0, 1)
    assert (visual(x_hat, x) > IN_TRAINING.squared_error * squared_error(x_hat, x)).all()
    assert visual(x, x).max() < 1e-6


def test_training_counts_the_distortion_of_its_settings(tmp_path: Path) -> None:
    images = [torch.from_numpy(synthetic_image(128, 128, n)).permute(2, 0, 1) for n in range(3)]
    settings = dataclasses.replace(
        SETTINGS, distortion="visual", crop_size=128, batch_size=2, pca_crops=8
    )
    trainer = Trainer(CONFIG, settings, images=images, checkpoint_path=tmp_path / "run.ckpt")
    trainer.run(Budget(steps=2))
    assert trainer.model.distortion_of is visual
    assert trainer.skipped == 0
    x = torch.stack(images[:2]) / 255
    estimate = trainer.model.eval()(x, torch.tensor([10.0, 90.0]))
    assert not torch.equal(estimate.distortion, estimate.mse)
    trainer.model.distortion_of = squared_error
    plain = trainer.model(x, torch.tensor([10.0, 90.0]))
    assert torch.equal(plain.distortion, plain.mse)
    torch.testing.assert_close(plain.mse, estimate.mse)


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"distortion": "vmaf"}, "mse, visual"), ({"distortion": "visual", "crop_size": 64}, "128")],
)
def test_bad_distortions_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MainSettings(**fields)  # type: ignore[arg-type]
