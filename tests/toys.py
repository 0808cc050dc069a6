"""Toy configurations and images that several tests train with, and a file on its way to pixels."""

from __future__ import annotations

import dataclasses

import torch
from make_golden import CONFIG, synthetic_image

from caecodec.codec.codec import Codec
from caecodec.codec.decoder import Decompression
from caecodec.format.container import unpack
from caecodec.format.entropy_coder import EntropyCoder

LEAN = dataclasses.replace(CONFIG, decoder_wide=0, block_tables=True, activation="hardswish")


def toy_images(count: int = 6, size: int = 96) -> list[torch.Tensor]:
    return [
        torch.from_numpy(synthetic_image(size, size, seed)).permute(2, 0, 1)
        for seed in range(count)
    ]


def start_decoding(codec: Codec, data: bytes) -> Decompression:
    """Return a file of which nothing is decoded yet."""
    return Decompression(codec.model, EntropyCoder(codec.tables), unpack(data))
