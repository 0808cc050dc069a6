"""Compress a folder or bucket of images on a Ray cluster; run it again to go on or to retry.

python examples/compress_on_ray.py s3://bucket/photos s3://bucket/compressed --quality 60
"""

import argparse

from caecodec.cluster.ray_folder import compress_folder
from caecodec.config import DEFAULT_EFFORT


def main() -> int:
    """Print what became of the images; 1 if some failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", help="folder or URL that every machine can read")
    parser.add_argument("destination", help="for the .cae files and manifest.parquet")
    parser.add_argument("--quality", type=float, help="0 to 100; default: 50")
    parser.add_argument("--lossless", action="store_true", help="instead of a quality")
    parser.add_argument("--effort", type=int, default=DEFAULT_EFFORT)
    parser.add_argument("--tune", help="visual or psnr")
    parser.add_argument("--model", help="shipped model or .safetensors file, instead of a tune")
    parser.add_argument("--workers", type=int, help="default: as many as there is room for")
    parser.add_argument("--threads", type=int, default=1, help="of each worker")
    options = parser.parse_args()
    found = compress_folder(**vars(options))
    print(f"{found.done} done, {found.skipped} skipped, {found.failed} failed: {found.manifest}")
    return 1 if found.failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
