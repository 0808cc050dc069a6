"""Decode a file in this process and print what must not depend on the machine. Run by a test."""

import json
import os
import sys
import zlib
from pathlib import Path

import numpy as np
import torch

from caecodec.codec import Codec


def main() -> None:
    """Arguments: weights, .cae file, where to write the pixels."""
    model, path, pixels = sys.argv[1:]
    torch.set_num_threads(int(os.environ.get("PROBE_THREADS", "2")))
    codec = Codec(model)
    data = Path(path).read_bytes()
    crc = 0
    for symbols, indexes in codec.file_symbols(data):
        crc = zlib.crc32(indexes.tobytes(), zlib.crc32(symbols.tobytes(), crc))
    np.save(pixels, np.array(codec.decompress(data)))
    print(json.dumps({"crc": crc, "cpu": torch.backends.cpu.get_cpu_capability()}))


if __name__ == "__main__":
    main()
