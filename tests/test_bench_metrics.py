"""BD-rates by every metric, and how the results show them."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console
from test_bench import make_point
from test_cli import MODEL, run

from caecodec.benchmark.bd_rate import METRICS, bd_matrix, bd_rates, shared_ranges
from caecodec.benchmark.measure import Point
from caecodec.benchmark.report import svg_section, tabs_section
from caecodec.benchmark.results import format_table, write_results

pytestmark = pytest.mark.slow


def curve(codec: str, *, psnr: float = 1.0, ms_ssim: float = 1.0, seen: float = 1.0) -> list[Point]:
    """A curve that needs so many times the bits for the same value of each metric."""
    return [
        Point(
            codec,
            quality=10 * (k + 3),
            num_images=1,
            bpp=2.0**k,
            psnr=30 + 5 * (k - math.log2(psnr)),
            ms_ssim=1 - 10 ** (-(10 + 4 * (k - math.log2(ms_ssim))) / 10),
            encode_seconds_per_megapixel=0.1,
            decode_seconds_per_megapixel=0.1,
            ssimulacra2=50 + 12 * (k - math.log2(seen)),
        )
        for k in range(-2, 3)
    ]


POINTS = [*curve("jpeg"), *curve("cae", psnr=0.5, ms_ssim=0.8, seen=1.25)]


@pytest.mark.parametrize(
    ("metric", "percent"), [("psnr", -50), ("ms_ssim", -20), ("ssimulacra2", 25)]
)
def test_each_metric_has_its_own_bd_rate(metric: str, percent: float) -> None:
    assert bd_rates(POINTS, metric=metric)["cae"] == pytest.approx(percent, abs=0.1)


def test_points_without_a_metric_have_no_bd_rate_by_it() -> None:
    points = [make_point("jpeg", 2.0**k, 30 + k) for k in range(5)]
    assert bd_rates(points) == {"jpeg": pytest.approx(0)}
    assert set(bd_rates(points, metric="ssimulacra2").values()) == {None}


def test_lossless_points_are_left_out_by_every_metric() -> None:
    lossless = Point("png", 100, 1, 9.0, math.inf, 1.0, 0.1, 0.1, 100.0)
    for metric in METRICS:
        assert "png" not in bd_rates([*POINTS, lossless], metric=metric)


def test_the_range_that_two_curves_share_is_said() -> None:
    ranges = shared_ranges(POINTS, "jpeg", metric="psnr")
    assert ranges["jpeg"] == (20, 40)
    assert ranges["cae"] == (25, 40)
    far = [*curve("jpeg"), *curve("cae", psnr=2.0**-5)]
    assert shared_ranges(far, "jpeg", metric="psnr")["cae"] is None
    assert bd_rates(far)["cae"] is None


def test_results_hold_bd_rates_by_metric_with_their_ranges(tmp_path: Path) -> None:
    others = {name: bd_matrix(POINTS, metric=name) for name in ("ms_ssim", "ssimulacra2")}
    write_results(tmp_path, [], POINTS, bd_matrix(POINTS), metadata={}, others=others)
    content = json.loads((tmp_path / "results.json").read_text())
    cell = content["bd_rates_by_metric"]["ssimulacra2"]["jpeg"]["cae"]
    assert cell["percent"] == pytest.approx(25, abs=0.1)
    assert cell["range"] == pytest.approx([26, 74 - 12 * math.log2(1.25)])
    for name in ("rd.svg", "rd-ms_ssim.svg", "rd-ssimulacra2.svg"):
        assert ET.parse(tmp_path / name).getroot().tag.endswith("svg")


def test_the_table_has_the_bd_rates_of_every_metric() -> None:
    others = {"ssimulacra2": bd_matrix(POINTS, metric="ssimulacra2")}
    console = Console(width=110, file=io.StringIO(), record=True)
    console.print(format_table(POINTS, bd_matrix(POINTS), others=others))
    lines = [line.split() for line in console.export_text().splitlines()]
    assert ["cae", "-50.0"] in lines
    assert ["cae", "+25.0"] in lines


def test_plots_on_one_page_keep_their_ids_apart() -> None:
    svg = '<?xml?><svg><g id="a"/><use href="#a"/><path style="clip-path: url(#a)"/></svg>'
    section = svg_section(svg, "psnr")
    assert section.count("psnr-a") == 3
    assert "<?xml" not in section


def test_tabs_show_one_part_at_a_time_and_a_single_part_needs_none() -> None:
    assert tabs_section({"PSNR": "<b>1</b>"}) == "<b>1</b>"
    both = tabs_section({"PSNR": "<b>1</b>", "S & M": "<b>2</b>"})
    assert both.count('type="radio"') == 2
    assert both.count(" checked") == 1
    assert "S &amp; M" in both


def test_bench_measures_ssimulacra2_unless_told_not_to(tmp_path: Path, photo_path: Path) -> None:
    for option, expected in ((), True), (("--no-ssimulacra2",), False):
        out = tmp_path / str(expected)
        arguments = ["--codecs", "cae,jpeg", "--qualities", "20,60", "--pictures", "0", *option]
        result = run("bench", photo_path.parent, "--out", out, *arguments, *MODEL)
        assert result.exit_code == 0, result.stderr
        points = json.loads((out / "results.json").read_text())["points"]
        assert all((point["ssimulacra2"] is not None) == expected for point in points)
        assert (out / "rd-ssimulacra2.svg").exists() == expected
