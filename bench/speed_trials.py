"""Time what could make the networks or a cold start faster, against what caecodec does.

python bench/speed_trials.py IMAGE [--model NAME]

Each line is a ratio of median times, trial over shipped, taken turn by turn in one process with 2
threads: below 1 the trial is faster. bench/results/speed.md says what became of each.
"""

import argparse
import copy
import json
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.mkldnn import to_mkldnn

from caecodec.codec.codec import Codec
from caecodec.codec.tensors import to_unit
from caecodec.config import DEFAULT_TUNE
from caecodec.format.entropy_coder import EntropyCoder
from caecodec.image.metrics import psnr
from caecodec.nn.architectures import build_model
from caecodec.nn.entropy_models import replicate_to_multiple
from caecodec.nn.inference_main import FrozenMain
from caecodec.nn.layers import Block
from caecodec.weights import shipped_path
from caecodec.weights.storage import load_weights

QUALITY = 50
REPEATS = 15

Work = Callable[[], object]


def seconds(*works: Work) -> list[float]:
    """Return the median time of each work, taken in turns after two calls to warm up."""
    times: list[list[float]] = [[] for _ in works]
    for turn in range(REPEATS + 2):
        for work, own in zip(works, times, strict=True):
            started = time.perf_counter()
            work()
            if turn >= 2:
                own.append(time.perf_counter() - started)
    return [statistics.median(own) for own in times]


def ratio(trial: Work, shipped: Work) -> float:
    """Return the time of a trial over that of what is shipped."""
    tried, kept = seconds(trial, shipped)
    return tried / kept


class FusedBlock(nn.Module):
    """A block whose 1x1 convolutions, SiLU and additions are oneDNN post-operations."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        """Return what the block returns."""
        block = self.block
        h = _pointwise(x, block.mix_in, "swish")
        x = x + _pointwise(block.mix_space(h), block.mix_out, "none")
        return x + _pointwise(_pointwise(x, block.expand, "swish"), block.contract, "none")


def _pointwise(x: Tensor, convolution: nn.Conv2d, activation: str) -> Tensor:
    output: Tensor = torch.ops.mkldnn._convolution_pointwise(  # noqa: SLF001
        x, convolution.weight, convolution.bias, [0, 0], [1, 1], [1, 1], 1, activation, [], ""
    )
    return output


def network_trials(model: FrozenMain, x: Tensor) -> dict[str, float]:
    """Return the ratios of other ways to run the same networks."""
    quality = torch.tensor([float(QUALITY)])
    networks = model.networks
    y = model.at(100 * QUALITY).analyze(model.stem(x))
    y_hat = y.round() * networks.inverse_gain(quality).exp()

    def shipped() -> Tensor:
        return networks.synthesis(y_hat, quality)

    ratios = {}
    block = networks.synthesis.blocks[0]
    h = torch.rand(1, model.config.channels, x.shape[-2] // 8, x.shape[-1] // 8)
    h = h.contiguous(memory_format=torch.channels_last)
    fused = FusedBlock(block)
    torch.testing.assert_close(fused(h), block(h), rtol=1e-3, atol=1e-3)
    ratios["block: convolution, bias and SiLU fused"] = ratio(lambda: fused(h), lambda: block(h))

    traced = torch.jit.trace(networks.synthesis, (y_hat, quality))
    frozen = torch.jit.optimize_for_inference(torch.jit.freeze(traced))
    ratios["synthesis: frozen TorchScript graph"] = ratio(lambda: frozen(y_hat, quality), shipped)

    compiled = torch.compile(networks.synthesis)
    started = time.perf_counter()
    compiled(y_hat, quality)
    first = time.perf_counter() - started
    ratios["synthesis: torch.compile"] = ratio(lambda: compiled(y_hat, quality), shipped)
    ratios["synthesis: torch.compile, first call, seconds"] = first

    plain = copy.deepcopy(networks.synthesis).to(memory_format=torch.contiguous_format)
    flat = y_hat.contiguous()
    ratios["synthesis: NCHW (oneDNN chooses its blocked layouts)"] = ratio(
        lambda: plain(flat, quality), shipped
    )
    layers = to_mkldnn(copy.deepcopy(block))
    dense = h.to_mkldnn()
    ratios["block: oneDNN's own tensors"] = ratio(lambda: blocked(layers, dense), lambda: block(h))
    ratios["analysis: bfloat16 autocast"] = ratio(
        lambda: half_precision(model.stem, x), lambda: model.stem(x)
    )
    return ratios


def blocked(layers: nn.Module, x: Tensor) -> Tensor:
    """Return what a block of oneDNN layers gives for one of oneDNN's own tensors."""

    def silu(h: Tensor) -> Tensor:
        return h * torch.sigmoid(h)

    x = x + layers.mix_out(layers.mix_space(silu(layers.mix_in(x))))
    return x + layers.contract(silu(layers.expand(x)))


def bfloat16_cost(codec: Codec, image: Image.Image) -> dict[str, float]:
    """Return what a bfloat16 stem does to size (percent) and PSNR (dB)."""
    exact = codec.compress(image, quality=QUALITY)
    model = codec.model
    stem = model.stem
    model.stem = lambda x: half_precision(stem, x)
    rough = codec.compress(image, quality=QUALITY)
    model.stem = stem
    levels = [psnr(np.array(image), np.array(codec.decompress(data))) for data in (exact, rough)]
    return {
        "bfloat16 stem: bytes, percent": 100 * (len(rough) / len(exact) - 1),
        "bfloat16 stem: PSNR, dB": levels[1] - levels[0],
    }


def half_precision(stem: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return stem(x) under bfloat16 autocast."""
    with torch.autocast("cpu", torch.bfloat16):
        return stem(x).float()


def shares(codec: Codec, image: Image.Image) -> dict[str, float]:
    """Return the part of a warm decode that entropy decoding takes, bound of any parallel form."""
    data = codec.compress(image, quality=QUALITY)
    whole, symbols = seconds(lambda: codec.decompress(data), lambda: codec.file_symbols(data))
    sections = codec.file_symbols(data)
    entropy_coder = EntropyCoder(codec.tables)
    payload = entropy_coder.entropy_encode(sections)

    def decode() -> None:
        decoder = entropy_coder.decoder(payload)
        for _, indexes in sections:
            decoder.decode(indexes)

    (coder,) = seconds(decode)
    return {
        "decode: share of the entropy coder alone": coder / whole,
        "decode: share of all up to the symbols": symbols / whole,
    }


def loading(path: Path) -> dict[str, float]:
    """Return what reading half the tensors would save of building a model."""
    weights = load_weights(path)
    analysis = [name for name in weights.tensors if name.startswith(("analysis", "hyper_analysis"))]
    read, build = seconds(
        lambda: load_weights(path), lambda: build_model(weights.config, weights.tensors)
    )
    size = sum(weights.tensors[name].nbytes for name in analysis)
    total = sum(tensor.nbytes for tensor in weights.tensors.values())
    return {
        "weights: seconds to read and hash": read,
        "weights: seconds to build the networks": build,
        "weights: share of bytes that a decoder does not need": size / total,
    }


def main() -> None:
    """Run all trials."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image", type=Path)
    parser.add_argument("--model", default=DEFAULT_TUNE)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(2)
    image = Image.open(options.image).convert("RGB")
    codec = Codec(options.model)
    model = codec.model
    with torch.no_grad():
        x = replicate_to_multiple(to_unit(np.array(image)), model.stride)
        results = network_trials(model, x) | bfloat16_cost(codec, image) | shares(codec, image)
    results |= loading(shipped_path(options.model))
    print(json.dumps({name: round(value, 4) for name, value in results.items()}, indent=2))


if __name__ == "__main__":
    main()
