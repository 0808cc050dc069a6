"""The decoder of web/ by WebGPU: the same pixels, or WebAssembly instead.

The device is Chromium's SwiftShader, a software adapter.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from make_golden import GOLDEN, synthetic_image
from PIL import Image
from selenium import webdriver
from web_site import serving

from caecodec.codec.codec import shared_codec
from caecodec.weights.storage import find_weights
from caecodec.weights.web import web_weights

pytestmark = pytest.mark.site

SHIPPED = GOLDEN / "shipped"
SECONDS = 240
LOAD = """
const [gpu, done] = arguments;
const { Decoder } = await import('/web/src/index.js');
window.fetched = async (path) =>
  new Uint8Array(await (await fetch(path, { cache: 'no-store' })).arrayBuffer());
const [weights, wasm] = [await fetched('/weights'), await fetched('/web/src/kernels.wasm')];
window.decoder = await Decoder.load(weights, wasm, gpu);
done();
"""
DECODE = """
const [change, done] = arguments;
Function(change)();
const { width, height, data, isByGpu } = await decoder.decode(await fetched('/file.cae'));
let text = '';
for (let at = 0; at < data.length; at += 8192)
  text += String.fromCharCode(...data.subarray(at, at + 8192));
done({ width, height, isByGpu, data: btoa(text) });
"""
ROUNDS_DOWN = """
const make = GPUDevice.prototype.createShaderModule;
GPUDevice.prototype.createShaderModule = function ({ code }) {
  return make.call(this, { code: code.replace('twice > 0 ||', '') });
};
"""
FAILS = "GPUBuffer.prototype.mapAsync = () => Promise.reject(new Error('the device is lost'));"


class Page:
    """A page with a decoder."""

    def __init__(self, folder: Path, browser: webdriver.Chrome) -> None:
        """Take a folder that is served, and a browser that shows it."""
        self.folder, self.browser = folder, browser

    def load(self, gpu: str) -> None:
        """Make a decoder of `visual`, in a page without the changes of the last one."""
        self.browser.refresh()
        self.browser.execute_async_script(LOAD, gpu)

    def decode(self, data: bytes, change: str = "") -> tuple[np.ndarray, bool]:
        """Return RGBA (H, W, 4), and whether the GPU made it;
        `change` is JavaScript that runs before."""
        (self.folder / "file.cae").write_bytes(data)
        found: dict[str, Any] = self.browser.execute_async_script(DECODE, change)
        pixels = np.frombuffer(base64.b64decode(found["data"]), np.uint8)
        return pixels.reshape(found["height"], found["width"], 4), found["isByGpu"]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, gpu_browser: webdriver.Chrome) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("gpu")
    (folder / "index.html").write_text("<!doctype html><title>test</title>")
    (folder / "weights").write_bytes(web_weights(find_weights("visual")))
    gpu_browser.set_script_timeout(SECONDS)
    with serving(folder) as address:
        gpu_browser.get(address)
        yield Page(folder, gpu_browser)


def golden(name: str) -> tuple[bytes, np.ndarray]:
    """Return a file and its pixels in RGBA."""
    with Image.open(SHIPPED / f"{name}.png") as expected:
        return (SHIPPED / f"{name}.cae").read_bytes(), np.asarray(expected.convert("RGBA"))


def test_a_gpu_makes_the_very_pixels_also_in_bands_and_gives_way_where_it_fails(
    page: Page,
) -> None:
    page.load("any")
    for name in ("visual-q0", "visual-gray"):
        data, expected = golden(name)
        pixels, is_by_gpu = page.decode(data)
        assert is_by_gpu
        assert np.array_equal(pixels, expected)
    codec = shared_codec("visual")
    tall = codec.compress(Image.fromarray(synthetic_image(16, 256, 3)), quality=70)
    expected = np.asarray(codec.decompress(tall).convert("RGBA"))
    page.decode(tall)  # makes the layers of its quality
    pixels, is_by_gpu = page.decode(tall, "decoder.byGpu.positions = 16")  # four rows and a halo
    assert is_by_gpu
    assert np.array_equal(pixels, expected)
    pixels, is_by_gpu = page.decode(tall, FAILS)
    assert not is_by_gpu
    assert np.array_equal(pixels, expected)


@pytest.mark.parametrize(("gpu", "change"), [("hardware", ""), ("none", ""), ("any", ROUNDS_DOWN)])
def test_no_software_adapter_is_taken_unasked_nor_one_that_rounds_otherwise(
    gpu: str, change: str, page: Page
) -> None:
    page.load(gpu)
    data, expected = golden("visual-q0")
    pixels, is_by_gpu = page.decode(data, change)
    assert not is_by_gpu
    assert np.array_equal(pixels, expected)
