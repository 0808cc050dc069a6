"""Fuzz one part with atheris until its time is up; anything but a CodecError is a crash.

python tests/fuzz/fuzz.py container|tiles|weights [--seconds N]

Needs `pip install atheris`. A crash leaves its input in the current folder, whose name is printed;
make a regression test of it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import struct
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import NamedTuple

import atheris

with atheris.instrument_imports(include=["caecodec"]):
    import torch
    from checks import check_file, check_payloads, check_weights
    from mutators import GOLDEN, SIZE_LIMIT, damage, forge, golden_files, split
    from weights_mutators import change_weights

    from caecodec.codec.codec import Codec
    from caecodec.format.constants import TILE_SIZES, Mode
    from caecodec.format.container import Header, unpack
    from caecodec.weights import shipped_path

TOY = GOLDEN / "toy.safetensors"
MAX_SECONDS = 20
"""An input that takes longer is a hang."""
MAX_MEGABYTES = 2048
"""Of the process. It starts with 200, and atheris adds 30 KB an input; its own, not the codec's."""

_HEADER = struct.Struct("<BHBBB")
"""Of an input for the tiles: gray or not, quality in hundredths, sides less 1, which tile size."""


class Target(NamedTuple):
    """What is fuzzed.

    Attributes:
        seeds: inputs to start from.
        run: fails on a crash.
        mutate: (input, random) -> another input.
    """

    seeds: list[bytes]
    run: Callable[[bytes], object]
    mutate: Callable[[bytes, Random], bytes]


def container() -> Target:
    """Fuzz everything that reads a file."""
    codec, seeds = Codec(TOY, size_limit=SIZE_LIMIT), list(golden_files().values())

    def mutate(data: bytes, random: Random) -> bytes:
        change = forge if split(data) and random.randrange(3) else damage
        return change(data, seeds, random).data

    return Target(seeds, lambda data: check_file(codec, data), mutate)


def tiles() -> Target:
    """Fuzz the payload parser: an input is a short header, then words for the tiles."""
    codec = Codec(TOY, size_limit=SIZE_LIMIT)

    def run(data: bytes) -> None:
        if len(data) > _HEADER.size:
            check_payloads(codec, *_payloads(data, codec.digest))

    containers = [unpack(data) for data in golden_files().values()]
    seeds = [
        _HEADER.pack(
            one.header.mode.is_gray,
            one.header.quality_units,
            one.header.width - 1,
            one.header.height - 1,
            TILE_SIZES.index(one.header.tile_size),
        )
        + b"".join(tile.payload for tile in one.tiles)
        for one in containers
        if max(one.header.width, one.header.height) <= 256
    ]
    return Target(seeds, run, lambda data, _: data)


def _payloads(data: bytes, digest: bytes) -> tuple[Header, list[bytes]]:
    """Return a legal header, and the words dealt to its tiles in equal parts."""
    is_gray, units, width, height, number = _HEADER.unpack_from(data)
    mode = Mode.L if is_gray % 2 else Mode.RGB
    tile_size = TILE_SIZES[number % len(TILE_SIZES)]
    header = Header(mode, units % 10_001, width + 1, height + 1, digest, tile_size)
    words, count = data[_HEADER.size :], len(header.grid)
    share = 4 * -(-len(words) // (4 * count))
    return header, [words[share * tile :][:share] for tile in range(count)]


def weights() -> Target:
    """Fuzz the loader of weights files."""

    def run(data: bytes) -> None:
        with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
            file.write(data)
            file.flush()
            check_weights(Path(file.name))

    seeds = [TOY.read_bytes(), shipped_path("classic").read_bytes()]

    def mutate(data: bytes, random: Random) -> bytes:
        return change_weights(random.choice((data, *seeds)), random)

    return Target(seeds, run, mutate)


TARGETS = {"container": container, "tiles": tiles, "weights": weights}


def fuzz(name: str, seconds: int, corpus: str) -> None:
    """Fuzz a target from its seeds; ends the process."""
    torch.set_num_threads(1)
    target = TARGETS[name]()
    for number, seed in enumerate(target.seeds):
        (Path(corpus) / f"seed-{number}").write_bytes(seed)

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        random = Random(seed)
        changed = target.mutate(data, random) if random.randrange(4) else data
        if changed == data:
            changed = atheris.Mutate(data, max_size)
        return bytes(changed[:max_size])

    flags = [
        f"-max_total_time={seconds}",
        f"-timeout={MAX_SECONDS}",
        f"-rss_limit_mb={MAX_MEGABYTES}",
        f"-max_len={2 * max(map(len, target.seeds))}",
        f"-artifact_prefix={name}-",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *flags, corpus], target.run, custom_mutator=mutate)
    atheris.Fuzz()


def main() -> None:
    """Fuzz in a process of its own, which libFuzzer ends; the corpus goes with this one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as corpus:
        arguments = options.target, options.seconds, corpus
        process = multiprocessing.Process(target=fuzz, args=arguments)
        process.start()
        process.join()
    sys.exit(process.exitcode)


if __name__ == "__main__":
    main()
