"""Toy configurations and images that several tests train with."""

from __future__ import annotations

import dataclasses

import torch
from make_golden import CONFIG, synthetic_image

LEAN = dataclasses.replace(CONFIG, decoder_wide=0, block_tables=True, activation="hardswish")


def toy_images(count: int = 6, size: int = 96) -> list[torch.Tensor]:
    return [
        torch.from_numpy(synthetic_image(size, size, seed)).permute(2, 0, 1)
        for seed in range(count)
    ]
