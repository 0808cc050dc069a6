from pathlib import Path

import numpy as np
import pytest
import torch
from exactness_probe import AVX512, Probed, probe
from make_golden import TOY, synthetic_image

from caecodec.codec.codec import Codec
from caecodec.config import MainConfig
from caecodec.nn.entropy_models import ScaleHead
from caecodec.nn.exact import IntegerScaleHead, export_scale_head, interpolate_offsets
from caecodec.nn.exact_layers import is_exact
from caecodec.weights import SHIPPED, shipped_path
from caecodec.weights.storage import load_weights

ENVIRONMENTS = {
    "one thread, the oldest instructions": {
        "PROBE_THREADS": "1",
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "MKL_CBWR": "COMPATIBLE",
    },
    "four threads, avx2": {
        "PROBE_THREADS": "4",
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_CBWR": "AVX2",
    },
    "int64, avx512 where there is": {
        "PROBE_HEAD": "int64",
        "ONEDNN_MAX_CPU_ISA": "AVX512_CORE",
        **AVX512,
    },
    "no oneDNN": {"PROBE_ONEDNN": "off"},
    "float64, slabs of three positions": {"PROBE_SUMS": "float64", "PROBE_SLAB": "3"},
    "part by part": {"PROBE_CROP": "77"},
}
"""bench/exactness.py takes each setting alone."""
MODELS = [TOY, *(shipped_path(name) for name in SHIPPED)]
EXACT = {path.stem for path in MODELS if is_exact(load_weights(path).tensors)}


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The models, and a file that each made here."""
    folder = tmp_path_factory.mktemp("exact")
    files = [folder / f"{model.stem}.cae" for model in MODELS]
    for model, path in zip(MODELS, files, strict=True):
        path.write_bytes(Codec(model).compress(synthetic_image(300, 200, 9), quality=85))
    return [*MODELS, *files]


@pytest.fixture(scope="module")
def reference(paths: list[Path]) -> Probed:
    """What a process finds that nothing is asked of."""
    return probe(paths, {})


@pytest.mark.slow
@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_files_decode_to_the_same_whatever_the_threads_libraries_and_parts(
    paths: list[Path], reference: Probed, environment: str
) -> None:
    other = probe(paths, ENVIRONMENTS[environment])
    assert len(reference.crcs) == len(MODELS)
    assert other.crcs == reference.crcs
    for name, pixels in reference.pixels.items():
        difference = np.abs(other.pixels[name].astype(int) - pixels).max()
        assert difference <= (0 if name in EXACT else 2)


def test_shipped_models_of_the_main_architecture_are_exact() -> None:
    assert {"psnr", "visual"} <= EXACT


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS, ids=lambda path: path.stem)
def test_the_scale_head_in_int64_equals_float64(model: Path) -> None:
    image = synthetic_image(200, 120, 10)
    for quality in (0.0, 42.42, 100.0):
        data = Codec(model).compress(image, quality=quality)
        floats = Codec(model).file_symbols(data)
        integers = Codec(model, head_dtype=torch.int64).file_symbols(data)
        for (symbols, indexes), (symbols64, indexes64) in zip(floats, integers, strict=True):
            assert np.array_equal(symbols, symbols64)
            assert np.array_equal(indexes, indexes64)


def test_int64_and_float64_agree_on_extreme_hyper_latents(toy: Codec) -> None:
    head = toy.model.scale_head
    integers = IntegerScaleHead(head.layers, head.offsets, dtype=torch.int64)
    z = torch.randint(-127, 128, (8, 5, 7), generator=torch.Generator().manual_seed(0))
    for units in (0, 1, 4999, 5000, 10_000):
        assert torch.equal(head(z, units), integers(z, units))


def test_tiles_in_a_batch_have_the_indexes_of_tiles_alone(toy: Codec) -> None:
    z = torch.randint(-9, 10, (6, 8, 3, 2), generator=torch.Generator().manual_seed(0))
    model = toy.model.at(3333)
    alone = torch.stack([model.scale_indexes(tile, (12, 7)) for tile in z])
    batch = torch.vmap(lambda tile: model.scale_indexes(tile, (12, 7)))(z)
    assert torch.equal(batch, alone)


def test_fixed_point_follows_the_trained_head_within_one_index() -> None:
    torch.manual_seed(0)
    config = MainConfig(latent_channels=32, hyper_channels=16, quality_anchors=3)
    head = ScaleHead(config)
    torch.nn.init.normal_(head.layers[-1].weight, std=0.1)
    torch.nn.init.uniform_(head.layers[-1].bias, 1, 6)
    torch.nn.init.uniform_(head.offset.values, -1, 1)
    z = torch.randint(-5, 6, (16, 6, 6))
    exact = export_scale_head(head)(z, 3_700)
    trained = head(z[None].float(), torch.tensor([37.0]))[0].clamp(0, 63)
    assert (exact - trained).abs().max() <= 0.6
    assert exact.float().std() > 1


def test_offsets_are_linear_between_anchors_in_integers() -> None:
    offsets = torch.tensor([[0, -100], [1000, 100], [3000, 101]])
    assert interpolate_offsets(offsets, 0).tolist() == [0, -100]
    assert interpolate_offsets(offsets, 2_500).tolist() == [500, 0]
    assert interpolate_offsets(offsets, 7_501).tolist() == [2000, 100]
    assert interpolate_offsets(offsets, 10_000).tolist() == [3000, 101]
