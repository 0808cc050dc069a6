"""Measure the memory and time of `caecodec compress` and `decompress` on images up to 100 MP.

python bench/big_images.py PHOTO [--out FILE] [--quality Q] [--sizes WxH,WxH,...]

PHOTO is mirrored and repeated to each size and stored as a PNG. Each command runs in a process of
its own, reading and writing PNG as a user's would; its seconds include the start of Python, and its
memory is the process's peak (Linux: VmHWM). `allowed_mb` is what an image of that size may take:
3 bytes a pixel plus 1 GB.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIZES = "1024x1024,2048x2048,4096x4096,10000x10000,50000x2000"
MEGA = 10**6
_CHILD = """
import sys
from pathlib import Path
from caecodec.cli.app import app
try:
    app(sys.argv[1:], standalone_mode=False)
finally:
    status = Path("/proc/self/status").read_text()
    print(status.split("VmHWM:")[1].split()[0])
"""


def repeated(photo: Image.Image, width: int, height: int) -> Image.Image:
    """Return the photo, mirrored and repeated to a size."""
    array = np.array(photo.convert("RGB"))
    cell = np.concatenate((array, array[:, ::-1]), axis=1)
    cell = np.concatenate((cell, cell[::-1]), axis=0)
    copies = -(-height // cell.shape[0]), -(-width // cell.shape[1]), 1
    return Image.fromarray(np.tile(cell, copies)[:height, :width])


def run(*arguments: str) -> dict[str, float]:
    """Run a command of caecodec and return its seconds and its peak memory."""
    started = time.perf_counter()
    child = subprocess.run(  # noqa: S603 - this Python
        [sys.executable, "-c", _CHILD, *arguments], check=True, capture_output=True, text=True
    )
    seconds = time.perf_counter() - started
    return {"seconds": round(seconds, 2), "peak_mb": round(int(child.stdout) * 1024 / MEGA)}


def measure(photo: Image.Image, width: int, height: int, quality: str) -> dict[str, Any]:
    """Compress and decompress one size."""
    pixels = width * height
    with tempfile.TemporaryDirectory() as folder:
        source, file, back = (str(Path(folder) / name) for name in ("in.png", "a.cae", "out.png"))
        repeated(photo, width, height).save(source, compress_level=1)
        results = {
            "compress": run("compress", source, file, "-q", quality),
            "decompress": run("decompress", file, back),
            "decompress --scale 1/8": run("decompress", file, back, "-f", "--scale", "1/8"),
            "decompress --crop": run("decompress", file, back, "-f", "--crop", "0,0,500,500"),
        }
        num_bytes = Path(file).stat().st_size
    for result in results.values():
        result["seconds_per_megapixel"] = round(result["seconds"] / pixels * MEGA, 3)
    return {
        "size": f"{width}x{height}",
        "megapixels": round(pixels / MEGA, 1),
        "bytes": num_bytes,
        "allowed_mb": round((3 * pixels + 10**9) / MEGA),
        **results,
    }


def main() -> None:
    """Measure every size and print or write a JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("photo", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--quality", default="50")
    parser.add_argument("--sizes", default=SIZES)
    arguments = parser.parse_args()
    photo = Image.open(arguments.photo)
    rows = []
    for size in arguments.sizes.split(","):
        width, height = map(int, size.split("x"))
        rows.append(measure(photo, width, height, arguments.quality))
        print(json.dumps(rows[-1]), flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
