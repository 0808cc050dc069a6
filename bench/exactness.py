"""Show that files decode to the same latents everywhere, and print what was compared as JSON.

python bench/exactness.py DATASET [--models NAME...] [--images N]

The middle of each image becomes a file of every model, at qualities from 0 to 100 in turn. A
process of each environment decodes them all; the CRC-32 of symbols and table indexes must not
differ, nor may pixels of exact models; those of others do, by rounding. The scale head also runs on
batches of tiles.
"""

import argparse
import json
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from caecodec.benchmark.measure import load_dataset
from caecodec.codec.codec import Codec
from caecodec.config import MainConfig
from caecodec.nn.architectures import build_model
from caecodec.weights import SHIPPED, shipped_path

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from exactness_probe import AVX512, Probed, probe

ENVIRONMENTS = (
    {"PROBE_THREADS": "1"},
    {"PROBE_THREADS": "4"},
    {"PROBE_HEAD": "int64"},
    {"ATEN_CPU_CAPABILITY": "default"},
    {"ATEN_CPU_CAPABILITY": "avx2"},
    *([AVX512] if AVX512 else []),
    {"ONEDNN_MAX_CPU_ISA": "SSE41"},
    {"ONEDNN_MAX_CPU_ISA": "AVX2"},
    {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
    {"MKL_CBWR": "COMPATIBLE"},
    {"MKL_CBWR": "AVX2"},
    {"MKL_CBWR": "AVX512"},
    {"PROBE_ONEDNN": "off"},
    {"PROBE_SUMS": "float64"},
    {"PROBE_SLAB": "3"},
    {"PROBE_SLAB": "100"},
    {"PROBE_CROP": "77"},
)
"""What differs from a process of 2 threads, float64, and the libraries' own choice."""
SIDE = 256
"""Pixels of the part of an image that is taken."""
TILE_SIZE = 8
"""Tiles of 128 pixels: 4 a part."""
BATCHES = (1, 4, 20, 80)
UNITS = (0, 3333, 10_000)
"""Qualities, in hundredths, at which batches are compared."""


def write_files(models: list[str], images: list[tuple[str, Image.Image]], folder: Path) -> None:
    """Write MODEL-NUMBER.cae for the middle of each image."""
    qualities = np.linspace(0, 100, len(images)).round(2)
    for model in models:
        codec = Codec(model, tile_size=TILE_SIZE)
        for number, ((_, image), quality) in enumerate(zip(images, qualities, strict=True)):
            left, top = ((side - SIDE) // 2 for side in image.size)
            part = image.crop((left, top, left + SIDE, top + SIDE))
            data = codec.compress(part, quality=float(quality))
            (folder / f"{model}-{number:02}.cae").write_bytes(data)


def compare(one: Probed, other: Probed, models: list[str]) -> dict[str, Any]:
    """Name the files whose latents differ, and say by how much pixels do, by model."""
    return {
        "different_latents": [name for name in one.crcs if one.crcs[name] != other.crcs[name]],
        "pixels": {model: compare_pixels(one, other, model) for model in models},
        "kernels_that_differ": [
            name for name in one.kernels if one.kernels[name] != other.kernels[name]
        ],
    }


def compare_pixels(one: Probed, other: Probed, model: str) -> dict[str, int]:
    """Say by how much the pixels of a model's files differ."""
    differences = [
        np.abs(pixels.astype(int) - other.pixels[name])
        for name, pixels in one.pixels.items()
        if name.startswith(f"{model}-")
    ]
    return {
        "largest_difference": int(max(values.max() for values in differences)),
        "samples_that_differ": int(sum(np.count_nonzero(values) for values in differences)),
        "samples": sum(values.size for values in differences),
    }


def batches(codec: Codec, files: list[Path]) -> dict[str, int]:
    """Count the scale indexes that differ from those of tiles one by one, by size of a batch."""
    model = build_model(codec.weights.config, codec.weights.tensors)
    sides = (TILE_SIZE, TILE_SIZE)
    shape = model.hyper_shape(sides)
    z_sections = [s for path in files for s, _ in codec.file_symbols(path.read_bytes())[::2]]
    tiles = torch.stack([torch.from_numpy(z).long().reshape(shape) for z in z_sections])
    counts = {"indexes": 0} | {f"different_in_batches_of_{size}": 0 for size in BATCHES}
    for units in UNITS:
        indexes = partial(model.at(units).scale_indexes, shape=sides)

        single = torch.stack([indexes(z) for z in tiles])
        counts["indexes"] += single.numel()
        for size in BATCHES:
            batched = torch.cat([torch.vmap(indexes)(part) for part in tiles.split(size)])
            counts[f"different_in_batches_of_{size}"] += int((batched != single).sum())
    return counts


def main() -> None:
    """Compare all and print a JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--models", nargs="+", default=list(SHIPPED))
    parser.add_argument("--images", type=int, default=20)
    options = parser.parse_args()
    images = load_dataset(options.dataset)[: options.images]
    with tempfile.TemporaryDirectory() as folder:
        write_files(options.models, images, Path(folder))
        paths = [*map(shipped_path, options.models), *sorted(Path(folder).glob("*.cae"))]
        reference = probe(paths, {})
        found = {
            "models": {name: Codec(name).digest.hex() for name in options.models},
            "dataset": options.dataset.name,
            "images": len(images),
            "files": len(reference.crcs),
            "torch": torch.__version__,
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "environments": {
                "=".join(*environment.items()): compare(
                    reference, probe(paths, environment), options.models
                )
                for environment in ENVIRONMENTS
            },
            "scale_indexes_of_batches": {
                name: batches(Codec(name), sorted(Path(folder).glob(f"{name}-*.cae")))
                for name in options.models
                if isinstance(Codec(name).weights.config, MainConfig)
            },
        }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
