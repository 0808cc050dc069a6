"""Files in a browser: the decoder of web/ in Chromium, its element, and the page of `view`."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from make_golden import GOLDEN, TOY, drawn_image, synthetic_image
from PIL import Image
from safetensors.numpy import load
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait
from test_cli import run
from web_site import ROOT, Handler, serving

from caecodec.codec.codec import shared_codec
from caecodec.config import Tune
from caecodec.weights.storage import find_weights
from caecodec.weights.web import ENCODER_ALONE, web_weights

pytestmark = pytest.mark.site

SHIPPED = sorted(path for tune in Tune for path in (GOLDEN / "shipped").glob(f"{tune}-*.cae"))
SECONDS = 120
DECODE = """
const [address, options, done] = arguments;
const { decode } = await import('/web/src/index.js');
const bytes = new Uint8Array(await (await fetch(address, { cache: 'no-store' })).arrayBuffer());
try {
  const own = { weights: '/models/', ...options };
  const { width, height, data, orientation } = await decode(bytes, own);
  let text = '';
  for (let at = 0; at < data.length; at += 8192)
    text += String.fromCharCode(...data.subarray(at, at + 8192));
  done({ width, height, orientation, data: btoa(text) });
} catch ({ name, message }) {
  done({ name, message });
}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("site")
    (found / "models").mkdir()
    (found / "index.html").write_text("<!doctype html><title>test</title><body></body>")
    for tune in Tune:
        result = run("export", tune, "--out", found / "models", "--web")
        assert result.exit_code == 0, result.stderr
    return found


@pytest.fixture(scope="module")
def site(folder: Path) -> Iterator[str]:
    with serving(folder) as address:
        yield address


@pytest.fixture
def decode(site: str, folder: Path, browser: webdriver.Chrome) -> Callable[..., dict[str, Any]]:
    """A function that decodes a file in the browser, to RGBA (H, W, 4) or an error."""
    browser.get(site)
    browser.set_script_timeout(SECONDS)

    def decoded(data: bytes, **options: object) -> dict[str, Any]:
        (folder / "file.cae").write_bytes(data)
        found: dict[str, Any] = browser.execute_async_script(DECODE, "/file.cae", options)
        if "data" in found:
            pixels = np.frombuffer(base64.b64decode(found["data"]), np.uint8)
            found["data"] = pixels.reshape(found["height"], found["width"], 4)
        return found

    return decoded


def rgba(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGBA"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_golden_files_have_the_same_pixels_in_a_browser(
    path: Path, decode: Callable[..., dict[str, Any]]
) -> None:
    found = decode(path.read_bytes())
    assert "data" in found, found
    with Image.open(path.with_suffix(".png")) as expected:
        assert np.array_equal(found["data"], rgba(expected))


LAWS = """
const [paths, done] = arguments;
const { laws } = await import('/web/test/laws.js');
const { Decoder } = await import('/web/src/index.js');
const fetched = async (path) => new Uint8Array(await (await fetch(`/${path}`)).arrayBuffer());
const files = new Map();
for (const path of paths) files.set(path, await fetched(path));
const read = (path) => files.get(path);
const list = (folder) => paths.filter((path) => path.startsWith(`${folder}/`))
  .map((path) => path.slice(folder.length + 1));
const wasm = await fetched('web/src/kernels.wasm');
const toy = await Decoder.load(read('tests/golden/toy.safetensors'), wasm);
const failures = [];
const all = laws({ toy, list, read });
for (const [name, law] of all)
  try {
    law();
  } catch ({ message }) {
    failures.push(`${name}: ${message}`);
  }
done([all.length, failures]);
"""


def test_golden_files_and_vectors_hold_in_a_browser(site: str, browser: webdriver.Chrome) -> None:
    browser.get(site)
    browser.set_script_timeout(SECONDS)
    folders = "golden/decode", "golden/errors", "vectors"
    found = [path for folder in folders for path in (ROOT / "tests" / folder).iterdir()]
    paths = [path.relative_to(ROOT).as_posix() for path in (*found, TOY) if path.is_file()]
    number, failures = browser.execute_async_script(LAWS, paths)
    assert failures == []
    assert number > 100


ATTACK = """
const [toys, shipped, weights, done] = arguments;
const { attackShipped, attackToy } = await import('/web/test/attack.js');
const { Decoder } = await import('/web/src/index.js');
const fetched = async (path) => new Uint8Array(await (await fetch(path)).arrayBuffer());
const all = (paths) => Promise.all(paths.map((path) => fetched(`/${path}`)));
const wasm = await fetched('/web/src/kernels.wasm');
try {
  const toy = await Decoder.load(await fetched('/tests/golden/toy.safetensors'), wasm);
  const decoder = await Decoder.load(await fetched(weights), wasm);
  done([await attackToy(toy, await all(toys)), await attackShipped(decoder, await all(shipped))]);
} catch ({ message }) {
  done(message);
}
"""


def test_2000_hostile_files_end_in_errors_in_a_browser(
    site: str, browser: webdriver.Chrome
) -> None:
    browser.get(site)
    browser.set_script_timeout(SECONDS)
    toys = sorted((GOLDEN / "decode").glob("*.cae"))
    shipped = [path for path in SHIPPED if re.match("visual-(gray|q0|tiles)", path.stem)]
    corpora = [[path.relative_to(ROOT).as_posix() for path in paths] for paths in (toys, shipped)]
    weights = f"/models/{find_weights('visual').digest.hex()}.safetensors"
    outcomes = browser.execute_async_script(ATTACK, *corpora, weights)
    assert isinstance(outcomes, list), outcomes
    assert sum(sum(own.values()) for own in outcomes) == 2000


def test_weights_are_fetched_once(
    decode: Callable[..., dict[str, Any]], site: str, browser: webdriver.Chrome
) -> None:
    data = SHIPPED[0].read_bytes()
    decode(data)
    Handler.served.clear()
    browser.get(site)  # forgets the workers, not the cache
    assert "data" in decode(data)
    assert "/file.cae" in Handler.served
    assert not any("/models/" in path for path in Handler.served)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_drawings_with_alpha_parts_and_sizes_are_those_of_python(
    mode: str, decode: Callable[..., dict[str, Any]]
) -> None:
    codec = shared_codec("visual")
    drawing = Image.fromarray(drawn_image(300, 200, 5)).convert("RGB")
    drawing.paste(Image.fromarray(synthetic_image(150, 200, 3)), (150, 0))
    alpha = Image.linear_gradient("L").resize(drawing.size)
    image = drawing.convert(mode)
    if mode.endswith("A"):
        image.putalpha(alpha)
    data = codec.compress(image, quality=60)
    assert np.array_equal(decode(data)["data"], rgba(codec.decompress(data)))
    box = (101, 37, 261, 180)
    crop = dict(zip(("left", "top", "width", "height"), (101, 37, 160, 143), strict=True))
    assert np.array_equal(
        decode(data, crop=crop)["data"],
        rgba(codec.decompress(data))[box[1] : box[3], box[0] : box[2]],
    )
    assert np.array_equal(decode(data, threads=2)["data"], rgba(codec.decompress(data)))
    small = decode(data, scale=1 / 8, threads=2)["data"].astype(int)
    expected = rgba(codec.decompress(data, scale=1 / 8))
    assert small.shape == expected.shape == (25, 38, 4)
    assert np.abs(small - expected)[expected[..., 3] > 127].max() <= 2


def test_errors_have_the_names_of_the_format(decode: Callable[..., dict[str, Any]]) -> None:
    data = bytearray(SHIPPED[0].read_bytes())
    assert decode(bytes(data[:-3]))["name"] == "TruncatedError"
    assert decode(bytes(data), maxPixels=10)["name"] == "LimitExceededError"
    data[-20] ^= 1
    assert decode(bytes(data))["name"] == "ChecksumMismatchError"
    other = (GOLDEN / "shipped" / "classic-q0.cae").read_bytes()
    assert "404" in decode(other)["message"]


def test_the_element_knows_its_size_early_and_turns_the_image(
    site: str, folder: Path, browser: webdriver.Chrome
) -> None:
    image = Image.fromarray(synthetic_image(96, 64, 2))
    exif = image.getexif()
    exif[0x112] = 6
    image.info["exif"] = exif.tobytes()
    codec = shared_codec("visual")
    data = codec.compress(image, quality=50)
    (folder / "turned.cae").write_bytes(data)
    (folder / "page.html").write_text(
        """<!doctype html><script type="module" src="/web/src/element.js"></script><body><script>
        const events = [];
        const note = ({ target, type, detail, message }) =>
          target.tagName === 'CAE-IMAGE' && events.push([type, detail, message]);
        for (const name of ['size', 'load', 'error']) document.addEventListener(name, note, true);
        </script><cae-image src="turned.cae" weights="/models/" alt="A picture"></cae-image>"""
    )
    browser.get(f"{site}/page.html")
    events = WebDriverWait(browser, SECONDS).until(
        lambda driver: driver.execute_script(
            "return events.some(([name]) => name !== 'size') && events"
        )
    )
    assert [event[0] for event in events] == ["size", "load"], events
    assert events[0][1] == {"width": 96, "height": 64}
    pixels = browser.execute_script(
        """const { canvas } = document.querySelector('cae-image');
        const { width, height } = canvas;
        const { data } = canvas.getContext('2d').getImageData(0, 0, width, height);
        return [width, height, [...data]];"""
    )
    expected = codec.decompress(data).transpose(Image.Transpose.ROTATE_270)
    found = np.array(pixels[2], np.uint8).reshape(pixels[1], pixels[0], 4)
    assert np.array_equal(found, rgba(expected))


def test_the_guide_works_when_copied(tmp_path: Path, browser: webdriver.Chrome) -> None:
    guide = (ROOT / "docs" / "guides" / "web-site.md").read_text()
    (commands,) = re.findall(r"```sh\n(.*?)```", guide, re.DOTALL)
    (page,) = re.findall(r"```html\n(.*?)```", guide, re.DOTALL)
    (tmp_path / "web").symlink_to(ROOT / "web")
    Image.fromarray(synthetic_image(64, 48, 4)).save(tmp_path / "photo.png")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(commands, shell=True, cwd=tmp_path, env={**os.environ, "PATH": path}, check=True)
    (tmp_path / "site" / "index.html").write_text(page)
    with serving(tmp_path / "site") as address:
        browser.get(address)
        shown = browser.find_element(By.TAG_NAME, "cae-image")
        WebDriverWait(browser, SECONDS).until(
            lambda driver: driver.execute_script("return arguments[0].result", shown)
        )
        assert shown.size["width"] > 10
        assert shown.accessible_name == "A photograph"
        browser.execute_script("arguments[0].setAttribute('src', 'x')", shown)
        WebDriverWait(browser, SECONDS).until(
            lambda driver: driver.execute_script("return arguments[0].error", shown)
        )
        assert browser.execute_script("return arguments[0].text.innerText", shown) == "A photograph"


def test_the_page_of_view_needs_no_other_file_and_shows_the_very_pixels(
    tmp_path: Path, browser: webdriver.Chrome
) -> None:
    path, page = SHIPPED[0], tmp_path / "a page.html"
    named = tmp_path / "photo <b>.cae"
    named.write_bytes(path.read_bytes())
    result = run("view", named, "-o", page)
    assert result.exit_code == 0, result.stderr
    assert "://" not in page.read_text()
    browser.get(page.as_uri())
    state = WebDriverWait(browser, SECONDS).until(
        lambda driver: (
            (text := driver.find_element(By.ID, "state").text) and "decoding" not in text and text
        )
    )
    with Image.open(path.with_suffix(".png")) as expected:
        assert state.startswith(f"{expected.width} × {expected.height} · ")
        assert browser.find_element(By.ID, "name").text == named.name
        source = browser.execute_script("return document.getElementById('canvas').toDataURL()")
        with Image.open(io.BytesIO(base64.b64decode(source.split(",")[1]))) as shown:
            assert np.array_equal(rgba(shown), rgba(expected))


def test_web_weights_are_the_decoders_part() -> None:
    weights = find_weights("visual")
    content = web_weights(weights)
    tensors = load(content)
    assert {name.split(".")[0] for name in weights.tensors} - set(ENCODER_ALONE) == {
        name.split(".")[0] for name in tensors
    }
    assert all(np.array_equal(values, weights.tensors[name]) for name, values in tensors.items())
    assert len(content) < 8_000_000
    length = int.from_bytes(content[:8], "little")
    metadata = json.loads(content[8 : 8 + length])["__metadata__"]
    assert metadata["model"] == weights.digest.hex()


def test_view_says_what_it_cannot_show(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    classic = GOLDEN / "shipped" / "classic-q0.cae"
    assert "exact model" in run("view", classic, "-o", page).stderr
    toy = GOLDEN / "decode" / "rgb-2x2.cae"
    assert "--model" in run("view", toy, "-o", page).stderr
    assert not page.exists()
