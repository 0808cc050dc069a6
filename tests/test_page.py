"""The HTML page of `bench` and `compare`: whole in itself, and its slider moves."""

from __future__ import annotations

import base64
import html.parser
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from make_golden import synthetic_image
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select
from test_cli import MODEL, run

from caecodec.benchmark.codecs import make_codecs
from caecodec.benchmark.equal_size import at_equal_size, at_size
from caecodec.benchmark.report import tabs_section, write_page
from caecodec.codec.codec import Codec

pytestmark = pytest.mark.site

SIDE = 192


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    Image.fromarray(synthetic_image(SIDE, SIDE, 4)).save(folder / "photo <1>.png")
    arguments = ["--codecs", "cae,jpeg,webp", "--bpp", "0.5", "--out", folder / "compare.html"]
    result = run("compare", folder / "photo <1>.png", *arguments, *MODEL)
    assert result.exit_code == 0, result.stderr
    return folder / "compare.html"


def data_of(page: Path) -> list[dict[str, object]]:
    (text,) = re.findall(
        r'<script type="application/json" id="data">(.*?)</script>', page.read_text()
    )
    found: list[dict[str, object]] = json.loads(text)
    return found


def test_the_page_needs_no_other_file(page: Path) -> None:
    links: list[str] = []

    class Links(html.parser.HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            links.extend(f"{tag} {value}" for name, value in attrs if name in {"src", "href"})

    Links().feed(page.read_text())
    assert links == []
    assert "http" not in page.read_text().replace("http://www.w3.org", "")


def test_images_are_the_files_and_the_original(page: Path) -> None:
    (picture,) = data_of(page)
    versions = {version["label"].split(",")[0]: version for version in picture["versions"]}
    assert set(versions) == {"caecodec", "original", "JPEG 4:2:0", "JPEG 4:4:4", "WebP"}
    for label, version in versions.items():
        data = base64.b64decode(version["source"].split(",")[1])
        pixels = np.array(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
        assert pixels.shape == (SIDE, SIDE, 3)
        difference = np.abs(pixels - synthetic_image(SIDE, SIDE, 4)).mean()
        assert (difference == 0) == (label == "original")
        if label in {"JPEG 4:2:0", "WebP"}:
            assert f"{len(data):,} bytes" in version["caption"]


def test_files_at_equal_size_fit_and_are_the_largest_that_do(toy: Codec) -> None:
    image = Image.fromarray(synthetic_image(SIDE, SIDE, 4))
    codecs = make_codecs(["cae", "jpeg", "webp", "png"], models={"cae": toy})
    versions = at_equal_size(codecs, image, 0.5)
    assert [version.codec for version in versions] == ["cae", "jpeg", "jpeg-444", "webp"]
    budgets = [SIDE * SIDE * 0.5 / 8] + 3 * [len(versions[0].data)]
    by_name = {codec.name: codec for codec in codecs}
    for version, budget in zip(versions, budgets, strict=True):
        next_one = by_name[version.codec].encode(image, version.quality + 1)
        assert len(version.data) <= budget < len(next_one)


def test_a_size_that_no_quality_reaches_gives_the_smallest_file() -> None:
    image = Image.fromarray(synthetic_image(SIDE, SIDE, 4))
    (jpeg, _) = make_codecs(["jpeg"])
    assert at_size(jpeg, image, 10).quality == 0


def test_compare_keeps_what_exists_and_needs_a_lossy_codec(page: Path) -> None:
    source = page.parent / "photo <1>.png"
    assert run("compare", source, "--out", page, *MODEL).exit_code == 1
    assert run("compare", source, "--out", page, "-f", "--codecs", "png", *MODEL).exit_code == 2


def test_the_slider_moves_the_line_between_two_versions(
    page: Path, browser: webdriver.Chrome
) -> None:
    browser.get(page.as_uri())
    assert browser.find_element(By.TAG_NAME, "h3").text == "photo <1>.png, 192 x 192"
    images = browser.find_elements(By.CSS_SELECTOR, ".stage img")
    assert all(image.get_property("naturalWidth") == SIDE for image in images)
    slider = browser.find_element(By.CSS_SELECTOR, "input[type=range]")
    top = browser.find_element(By.CSS_SELECTOR, "img.left")
    assert "50%" in top.value_of_css_property("clip-path")
    for _ in range(100):
        slider.send_keys(Keys.ARROW_RIGHT)
    assert "40%" in top.value_of_css_property("clip-path")
    divider = browser.find_element(By.CSS_SELECTOR, ".divider")
    assert divider.get_attribute("style") == "left: 60%;"
    Select(browser.find_element(By.CSS_SELECTOR, "select.right")).select_by_visible_text("original")
    assert browser.find_element(By.CSS_SELECTOR, "span.right").text == "original"
    Select(browser.find_element(By.CSS_SELECTOR, "select.zoom")).select_by_visible_text("4x")
    stage = browser.find_element(By.CSS_SELECTOR, ".stage")
    assert stage.size == {"width": 4 * SIDE, "height": 4 * SIDE}
    assert browser.get_log("browser") == []


def test_what_is_seen_left_of_the_line_is_the_left_version(
    page: Path, browser: webdriver.Chrome
) -> None:
    browser.get(page.as_uri())
    Select(browser.find_element(By.CSS_SELECTOR, "select.left")).select_by_visible_text("original")
    Select(browser.find_element(By.CSS_SELECTOR, "select.right")).select_by_index(0)  # caecodec
    Select(browser.find_element(By.CSS_SELECTOR, "select.zoom")).select_by_visible_text("1x")
    stage = browser.find_element(By.CSS_SELECTOR, ".stage")
    shot = Image.open(io.BytesIO(stage.screenshot_as_png)).convert("RGB")
    seen = np.array(shot).astype(int)
    assert seen.shape == (SIDE, SIDE, 3)
    error = np.abs(seen - synthetic_image(SIDE, SIDE, 4))[8:-8].mean((0, 2))  # corners are round
    assert error[: SIDE // 2 - 2].max() < 0.5
    assert error[SIDE // 2 + 2 :].min() > 0.5


def test_a_tab_shows_its_own_part_alone(tmp_path: Path, browser: webdriver.Chrome) -> None:
    parts = {"PSNR": '<p class="one">one</p>', "SSIMULACRA2": '<p class="two">two</p>'}
    path = tmp_path / "page.html"
    write_page(path, title="t", subtitle="s", sections=[("R", tabs_section(parts))], pictures=[])
    browser.get(path.as_uri())
    one, two = (browser.find_element(By.CLASS_NAME, name) for name in ("one", "two"))
    assert (one.is_displayed(), two.is_displayed()) == (True, False)
    browser.find_element(By.XPATH, "//label[text()='SSIMULACRA2']").click()
    assert (one.is_displayed(), two.is_displayed()) == (False, True)
