"""Time decoding in Chromium beside the Python package, and print seconds as JSON.

python bench/browser.py IMAGE [--tune visual] [--quality 50] [--rounds 7]

Each round decodes the same file in the browser with one worker and with two, and in this process
with one thread and with two; medians stand. A worker has its weights already. Needs Chromium, its
driver and selenium.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from PIL import Image
from selenium import webdriver

from caecodec.codec.codec import shared_codec
from caecodec.config import Tune
from caecodec.weights.storage import find_weights
from caecodec.weights.web import web_weights

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from web_site import serving

DECODE = """
const [threads, done] = arguments;
const { decode } = await import('/web/src/index.js');
window.bytes ??= new Uint8Array(await (await fetch('/file.cae')).arrayBuffer());
const start = performance.now();
await decode(window.bytes, { weights: '/weights', threads });
done((performance.now() - start) / 1000);
"""


@contextmanager
def opened(folder: Path) -> Iterator[webdriver.Chrome]:
    """Open a page of a server of the folder in Chromium."""
    options = webdriver.ChromeOptions()
    for switch in ("headless", "no-sandbox", "disable-gpu"):
        options.add_argument(f"--{switch}")
    options.binary_location = shutil.which("chromium") or ""
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    browser = webdriver.Chrome(options=options, service=service)
    browser.set_script_timeout(600)
    try:
        with serving(folder) as address:
            browser.get(address)
            yield browser
    finally:
        browser.quit()


def in_python(data: bytes, tune: str, threads: int) -> float:
    """Return the seconds of a decode by the package."""
    torch.set_num_threads(threads)
    start = time.perf_counter()
    shared_codec(tune).decompress(data)
    return time.perf_counter() - start


def main() -> None:
    """Time, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image", type=Path)
    parser.add_argument("--tune", choices=list(Tune), default="visual")
    parser.add_argument("--quality", type=float, default=50)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()

    with Image.open(arguments.image) as image:
        pixels = image.width * image.height
        data = shared_codec(arguments.tune).compress(image, quality=arguments.quality)
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "file.cae").write_bytes(data)
        (folder / "weights").write_bytes(web_weights(find_weights(arguments.tune)))
        with opened(folder) as browser:
            for _ in range(arguments.rounds + 1):  # the first warms up
                for threads in (1, 2):
                    found = browser.execute_async_script(DECODE, threads)
                    seconds.setdefault(f"browser, {threads}", []).append(found)
                    found = in_python(data, arguments.tune, threads)
                    seconds.setdefault(f"python, {threads}", []).append(found)
            version = browser.capabilities["browserVersion"]
    medians = {name: round(statistics.median(own[1:]), 3) for name, own in seconds.items()}
    print(json.dumps({"image": arguments.image.name, "megapixels": pixels / 1e6, "bytes": len(data),
                      "chromium": version, "seconds": medians}, indent=1))  # fmt: skip


if __name__ == "__main__":
    main()
