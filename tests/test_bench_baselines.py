"""The published curves: their sources, when they are used, and what is compared with them."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import re
import tomllib
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from PIL import Image
from rich.console import Console

from caecodec.benchmark.baselines import (
    KODAK_FILE,
    Baseline,
    compare,
    is_kodak,
    load_baselines,
)
from caecodec.benchmark.bd_rate import bd_matrix
from caecodec.benchmark.measure import Point, Record
from caecodec.benchmark.plot import plot_rd
from caecodec.benchmark.results import format_table, write_results
from caecodec.cli.benchmark import run
from caecodec.errors import ConfigError

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
CURVE = {"label": "VTM", "source": "a@1 b", "bpp": [0.25, 0.5, 1.0, 2.0], "psnr": [30, 35, 40, 45]}


def make_curve(codec: str, *, factor: float = 1.0) -> list[Point]:
    """PSNR of 30 dB at a quarter of factor bpp, 5 dB more for every doubling."""
    rates = [factor * 2.0**k for k in range(-2, 2)]
    return [Point(codec, k, 24, rate, 30.0 + 5 * k, None, 0.1, 0.1) for k, rate in enumerate(rates)]


def kodak_images() -> list[tuple[str, Image.Image]]:
    portraits = {4, 9, 10, 17, 18, 19}
    sizes = {number: (512, 768) if number in portraits else (768, 512) for number in range(1, 25)}
    return [(f"kodim{number:02}.png", Image.new("RGB", size)) for number, size in sizes.items()]


def write_curves(path: Path, **curves: Any) -> Path:
    path.write_text(json.dumps({"curves": curves}))
    return path


def test_the_shipped_curves_are_those_that_the_readme_lists() -> None:
    names = [baseline.name for baseline in load_baselines(KODAK_FILE)]
    assert names[0] == "vtm"
    readme = (ROOT / "bench" / "baselines" / "README.md").read_text()
    rows = [line.split("|")[1] for line in readme.splitlines() if line.startswith("| `")]
    assert [name for row in rows for name in re.findall("`(.*?)`", row)] == names


def test_each_shipped_curve_names_its_source_commit_and_what_psnr_is_of() -> None:
    for baseline in load_baselines(KODAK_FILE):
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{10} \S+", baseline.source)
    curves = json.loads(KODAK_FILE.read_text())["curves"].values()
    assert {curve["psnr_of"] for curve in curves} == {"float", "8 bit", "not stated"}


def test_the_package_data_holds_the_shipped_curves() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = settings["tool"]["setuptools"]["package-data"]["caecodec"]
    assert any(KODAK_FILE.match(f"caecodec/{pattern}") for pattern in patterns)


@pytest.mark.parametrize(
    ("name", "percent"),
    [("bpg-444", 22.0), ("av1", 16.2), ("hyperprior", 30.5), ("elic", -7.4), ("qarv", -5.9)],
)
def test_shipped_curves_lie_where_their_publishers_say_against_vtm(
    name: str, percent: float
) -> None:
    baselines = {baseline.name: baseline for baseline in load_baselines(KODAK_FILE)}
    curve = baselines[name]
    points = [
        Point(name, 50, 24, bpp, psnr, None, 0, 0)
        for bpp, psnr in zip(curve.bpp, curve.psnr, strict=True)
    ]
    (comparison,) = compare(points, [baselines["vtm"]])
    assert comparison.bd_rates == {name: pytest.approx(percent, abs=0.2)}


def test_kodak_is_known_by_its_24_names_and_sizes() -> None:
    images = kodak_images()
    assert is_kodak(images)
    assert is_kodak([(f"sub/{name.upper()}", image) for name, image in reversed(images)])


def test_anything_else_is_not_kodak() -> None:
    images = kodak_images()
    assert not is_kodak(images[:-1])
    assert not is_kodak([*images, ("other.png", Image.new("RGB", (768, 512)))])
    assert not is_kodak([*images[:-1], ("kodim25.png", images[-1][1])])
    assert not is_kodak([*images[:-1], images[0]])
    assert not is_kodak([*images[:-1], ("kodim24.png", Image.new("RGB", (384, 256)))])


def test_a_file_of_curves_is_read_in_its_order(tmp_path: Path) -> None:
    path = write_curves(tmp_path / "curves.json", b=CURVE, a={**CURVE, "note": "not read"})
    first, second = load_baselines(path)
    assert first == Baseline("b", "VTM", "a@1 b", (0.25, 0.5, 1.0, 2.0), (30.0, 35.0, 40.0, 45.0))
    assert second == dataclasses.replace(first, name="a")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": ""}, "label of curve 'vtm'.*expected text"),
        ({"source": None}, "source of curve 'vtm'.*expected text"),
        ({"bpp": []}, "bpp of curve 'vtm'.*positive numbers"),
        ({"bpp": [0.0, 0.5, 1, 2]}, "bpp of curve 'vtm'.*positive numbers"),
        ({"psnr": [30, 35, 40, math.inf]}, "psnr of curve 'vtm'.*positive numbers"),
        ({"psnr": [30, 35, 40, True]}, "psnr of curve 'vtm'.*positive numbers"),
        ({"psnr": [30, 35, 35, 45]}, "psnr of curve 'vtm'.*ascending"),
        ({"bpp": [0.25, 0.5, 1.0]}, "3 bpp and 4 psnr"),
    ],
)
def test_a_curve_that_is_none_is_refused_by_name(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = write_curves(tmp_path / "curves.json", vtm={**CURVE, **change})
    with pytest.raises(ConfigError, match=message):
        load_baselines(path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"curves": {}}', '{"curves": {"a": 1}}'])
def test_a_file_without_curves_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "curves.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"curves\.json"):
        load_baselines(path)
    with pytest.raises(ConfigError, match="cannot read the baselines"):
        load_baselines(tmp_path / "missing.json")


def test_every_measured_codec_is_compared_with_every_published_curve(tmp_path: Path) -> None:
    half = {**CURVE, "bpp": [rate / 2 for rate in (0.25, 0.5, 1.0, 2.0)]}
    baselines = load_baselines(write_curves(tmp_path / "curves.json", vtm=CURVE, best=half))
    points = [*make_curve("cae", factor=1.1), *make_curve("jpeg", factor=2)]
    vtm, best = compare(points, baselines)
    assert (vtm.baseline.name, best.baseline.name) == ("vtm", "best")
    assert vtm.bd_rates == pytest.approx({"cae": 10, "jpeg": 100})
    assert best.bd_rates == pytest.approx({"cae": 120, "jpeg": 300})


def test_a_published_curve_may_have_the_name_of_a_measured_codec(tmp_path: Path) -> None:
    baselines = load_baselines(write_curves(tmp_path / "curves.json", jpeg=CURVE))
    (comparison,) = compare(make_curve("jpeg", factor=2), baselines)
    assert comparison.bd_rates == pytest.approx({"jpeg": 100})


def test_bd_rates_against_published_curves_are_printed_and_written(tmp_path: Path) -> None:
    points = [*make_curve("cae", factor=1.1), *make_curve("jpeg", factor=2)]
    comparisons = compare(points, load_baselines(write_curves(tmp_path / "c.json", vtm=CURVE)))
    console = Console(width=110, file=io.StringIO(), record=True)
    console.print(format_table(points, bd_matrix(points), comparisons))
    lines = console.export_text().splitlines()
    assert any(line.split() == ["VTM", "+10.0", "+100.0"] for line in lines)
    record = Record("a", "cae", 50, 8, 8, 8, 1.0, 30.0, None, 0.1, 0.1)
    write_results(tmp_path, [record], points, {}, metadata={}, comparisons=comparisons)
    published = json.loads((tmp_path / "results.json").read_text())["published"]
    assert published["vtm"]["source"] == "a@1 b"
    assert published["vtm"]["bd_rates"] == pytest.approx({"cae": 10, "jpeg": 100})
    assert "Published, not measured here" in (tmp_path / "rd.svg").read_text()
    assert ET.parse(tmp_path / "rd.svg").getroot().tag.endswith("svg")


def test_the_plot_draws_published_curves_dashed_and_within_the_range_of_the_measured() -> None:
    points = make_curve("cae")
    comparisons = compare(points, load_baselines(KODAK_FILE))
    (plain,) = plot_rd(points, {}, title="kodak").axes
    (axes,) = plot_rd(points, {}, title="kodak", comparisons=comparisons).axes
    assert (axes.get_xlim(), axes.get_ylim()) == (plain.get_xlim(), plain.get_ylim())
    dashed = [line for line in axes.lines if line.is_dashed()]
    assert len(dashed) == len(comparisons) == len(axes.lines) - 1
    looks = {(line.get_color(), str(line._unscaled_dash_pattern)) for line in dashed}
    assert len(looks) == len(dashed)


def test_the_plot_takes_codecs_and_anchors_that_it_has_no_style_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("caecodec.benchmark.plot.BD_ANCHORS", ("new",))
    points = [*make_curve("cae"), *make_curve("new", factor=2)]
    (axes,) = plot_rd(points, bd_matrix(points, ["new"]), title="kodak").axes
    assert axes.get_legend().get_title().get_text() == "BD-rate against new"


def test_the_legend_names_published_curves_from_the_best_at_mid_rate_down() -> None:
    points = make_curve("cae")
    comparisons = compare(points, load_baselines(KODAK_FILE))
    (axes,) = plot_rd(points, {}, title="kodak", comparisons=comparisons).axes
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert len(labels) == len(comparisons)
    assert labels[-1].startswith("factorized 2018")
    assert all(label.endswith("%") for label in labels)


def test_a_benchmark_uses_the_file_it_is_given_and_none_for_other_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images").mkdir()
    Image.linear_gradient("L").convert("RGB").resize((48, 32)).save(tmp_path / "images" / "a.png")
    path = write_curves(tmp_path / "curves.json", vtm=CURVE)
    for name, baselines in (("without", None), ("with", path)):
        run(
            tmp_path / "images",
            ["jpeg"],
            qualities=None,
            out=tmp_path / name,
            model=None,
            baselines=baselines,
        )
    results = {
        name: json.loads((tmp_path / name / "results.json").read_text())
        for name in ("without", "with")
    }
    assert results["without"]["published"] == {}
    assert results["without"]["metadata"]["baselines"] is None
    assert list(results["with"]["published"]) == ["vtm"]
    assert results["with"]["metadata"]["baselines"] == "curves.json"
    assert capsys.readouterr().out.count("published curves") == 1


def test_a_benchmark_of_kodak_uses_the_shipped_curves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = kodak_images()
    monkeypatch.setattr("caecodec.cli.benchmark.load_dataset", lambda _: images)
    monkeypatch.setattr("caecodec.cli.benchmark.run_benchmark", lambda *_, **__: [])
    run(tmp_path, ["jpeg"], qualities=None, out=tmp_path, model="psnr")
    content = json.loads((tmp_path / "results.json").read_text())
    assert content["metadata"]["baselines"] == "kodak.json"
    assert set(content["published"]) == set(json.loads(KODAK_FILE.read_text())["curves"])
