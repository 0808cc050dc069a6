"""Decode files in a process of its own and tell what must not depend on the machine.

python tests/exactness_probe.py PIXELS.npz MODEL.safetensors... FILE.cae...

The environment chooses: PROBE_THREADS, PROBE_HEAD (float64 or int64, the arithmetic of the scale
head), PROBE_ONEDNN=off (torch's own convolutions), PROBE_SUMS=float64 (in which the convolutions of
exact models run), PROBE_SLAB (positions that are synthesised at a time), PROBE_CROP (decode by
parts of so many pixels a side), and the instructions of ATen's element-wise kernels
(ATEN_CPU_CAPABILITY), of oneDNN's convolutions (ONEDNN_MAX_CPU_ISA) and of MKL's products, the
scale head's among them (MKL_CBWR).
Used by tests/test_exactness.py and bench/exactness.py.
"""

import json
import os
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from caecodec.codec.codec import Codec
from caecodec.format.container import unpack_header
from caecodec.nn import exact_layers, inference_main

AVX512 = (
    {"ATEN_CPU_CAPABILITY": "avx512"} if torch.backends.cpu.get_cpu_capability() == "AVX512" else {}
)
"""ATen obeys where the processor has no such instructions, and dies; the other libraries do not."""


class Probed(NamedTuple):
    """What one process found.

    Attributes:
        crcs: file's stem -> CRC-32 of its symbols and table indexes.
        pixels: file's stem -> decoded image.
        kernels: CRC-32 of float results on noise, by kernel: equal ones mean equal arithmetic.
    """

    crcs: dict[str, str]
    pixels: dict[str, NDArray[np.uint8]]
    kernels: dict[str, str]


def probe(paths: Sequence[Path], environment: dict[str, str]) -> Probed:
    """Decode files, whose models' weights are among the paths, in a fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "pixels.npz"
        done = subprocess.run(
            [sys.executable, __file__, out, *paths],
            env=os.environ | environment,
            capture_output=True,
            check=True,
            text=True,
        )
        with np.load(out) as pixels:
            return Probed(**json.loads(done.stdout), pixels=dict(pixels))


def main() -> None:
    """Decode, write the pixels, print the rest."""
    out, *paths = map(Path, sys.argv[1:])
    torch.set_num_threads(int(os.environ.get("PROBE_THREADS", "2")))
    head_dtype = getattr(torch, os.environ.get("PROBE_HEAD", "float64"))
    torch._C._set_mkldnn_enabled(*(os.environ.get("PROBE_ONEDNN") != "off",))
    if os.environ.get("PROBE_SUMS") == "float64":
        sum_in_float64()
    if "PROBE_SLAB" in os.environ:
        inference_main.SLAB_POSITIONS = int(os.environ["PROBE_SLAB"])
    models = [path for path in paths if path.suffix == ".safetensors"]
    codecs = {
        codec.digest: codec for codec in (Codec(path, head_dtype=head_dtype) for path in models)
    }
    crcs: dict[str, str] = {}
    pixels: dict[str, Any] = {}
    for path in paths:
        if path in models:
            continue
        data, crc = path.read_bytes(), 0
        codec = codecs[unpack_header(data).digest]
        for symbols, indexes in codec.file_symbols(data):
            crc = zlib.crc32(indexes.tobytes(), zlib.crc32(symbols.tobytes(), crc))
        crcs[path.stem] = f"{crc:08x}"
        pixels[path.stem] = decode(codec, data, int(os.environ.get("PROBE_CROP", "0")))
    np.savez(out, **pixels)
    print(json.dumps({"crcs": crcs, "kernels": float_kernels()}))


def decode(codec: Codec, data: bytes, side: int) -> NDArray[np.uint8]:
    """Decode all at once, or part by part."""
    if not side:
        return np.array(codec.decompress(data))
    header = unpack_header(data)
    rows = []
    for top in range(0, header.height, side):
        height = min(side, header.height - top)
        parts = [
            codec.decompress(data, crop=(left, top, min(side, header.width - left), height))
            for left in range(0, header.width, side)
        ]
        rows.append(np.concatenate([np.array(part) for part in parts], axis=1))
    return np.concatenate(rows)


def sum_in_float64() -> None:
    """Let the convolutions of exact models sum in float64, where all integers are exact."""

    def convolve(layer: exact_layers.ExactConv2d, x: Any, weight: Any, bias: Any) -> Any:
        own, bias = layer.layer, None if bias is None else bias.double()
        found = torch.nn.functional.conv2d(
            x.double(), weight.double(), bias, padding=own.padding, groups=own.groups
        )
        assert bool((found == found.float()).all())
        return found.float()

    exact_layers.ExactConv2d._convolve = convolve  # type: ignore[method-assign]


def float_kernels() -> dict[str, str]:
    """Run what each library does in a model, on noise, where rounding shows the kernel."""
    random = torch.Generator().manual_seed(0)
    weight, patches = (
        torch.rand(shape, dtype=torch.float64, generator=random)
        for shape in ((128, 1152), (1152, 256))
    )
    x, kernel = (torch.rand(shape, generator=random) for shape in ((1, 64, 32, 32), (64, 64, 3, 3)))
    results = {
        "aten_silu": torch.nn.functional.silu(x),
        "onednn_convolution": torch.nn.functional.conv2d(x, kernel),
        "mkl_product": weight @ patches,
    }
    return {name: f"{zlib.crc32(value.numpy().tobytes()):08x}" for name, value in results.items()}


if __name__ == "__main__":
    main()
