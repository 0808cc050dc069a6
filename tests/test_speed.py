"""The promises of bench/speed.py: equal work, warm calls, memory of fresh processes."""

from __future__ import annotations

import importlib.util
import io
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from make_golden import TOY
from PIL import Image
from rich.console import Console

from caecodec.benchmark.codecs import make_codecs
from caecodec.image.metrics import psnr

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[1] / "bench" / "speed.py"


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("speed", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


speed = load_script()


def smooth_noise(width: int, height: int) -> Image.Image:
    coarse = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    smooth_noise(96, 64).save(folder / "a.png")
    smooth_noise(64, 96).save(folder / "b.png")
    return folder


def job(dataset: Path, codec: str, **fields: Any) -> dict[str, Any]:
    paths = [str(path) for path in sorted(dataset.iterdir())]
    return {"codec": codec, "paths": paths, "model": str(TOY), "threads": 1, "repeats": 1, **fields}


def row(codec: str, threads: int, seconds: float) -> dict[str, Any]:
    units = ("seconds_per_megapixel", "megabytes")
    measured = {f"{way}_{unit}": seconds for way in ("encode", "decode") for unit in units}
    return {"codec": codec, "threads": threads, "quality": 50, "bpp": 1, "psnr": 35, **measured}


def printed(table: object) -> list[list[str]]:
    console = Console(width=130, file=io.StringIO(), record=True)
    console.print(table)
    return [line.split() for line in console.export_text().splitlines()]


def test_the_quality_is_the_lowest_whole_one_that_reaches_the_target(dataset: Path) -> None:
    found = speed.choose_quality(job(dataset, "jpeg"))["quality"]
    image = Image.open(dataset / "a.png")
    codec = make_codecs(["jpeg"])[0]
    levels = [
        psnr(np.asarray(image), np.asarray(codec.decode(codec.encode(image, quality))))
        for quality in (found - 1, found)
    ]
    assert levels[0] < speed.TARGET_PSNR <= levels[1]


def test_a_target_out_of_reach_gives_quality_100(
    dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "TARGET_PSNR", 200.0)
    assert speed.choose_quality(job(dataset, "jpeg")) == {"quality": 100.0}


def test_the_first_of_the_repeated_calls_is_not_counted() -> None:
    calls: list[int] = []
    assert speed.warm_seconds(lambda: calls.append(1), 3) >= 0
    assert len(calls) == 4


@pytest.mark.parametrize("megapixels", [0.003, 0.0061, 0.1])
def test_a_grown_image_has_its_size_and_mirrored_copies(megapixels: float) -> None:
    image = smooth_noise(96, 64)
    grown = speed.grow(image, megapixels)
    assert grown.width * grown.height == pytest.approx(megapixels * 1e6, rel=0.03)
    assert grown.width / grown.height == pytest.approx(1.5, rel=0.02)
    pixels, source = np.asarray(grown), np.asarray(image)
    height, width = min(64, grown.height), min(96, grown.width)
    assert np.array_equal(pixels[:height, :width], source[:height, :width])
    if grown.width > 192:
        assert np.array_equal(pixels[:64, 96:192], source[:, ::-1])


@pytest.mark.parametrize("codec", ["cae", "jpeg"])
def test_times_come_with_the_rate_and_psnr_of_every_image(dataset: Path, codec: str) -> None:
    result = speed.measure_times(job(dataset, codec, quality=50))
    rates = []
    for path in sorted(dataset.iterdir()):
        single = speed.measure_times(job(dataset, codec, quality=50, paths=[str(path)]))
        rates.append(single["bpp"])
    assert result["bpp"] == pytest.approx(sum(rates) / 2)
    assert 5 < result["psnr"] < 60
    assert result["encode_seconds_per_megapixel"] > 0
    assert result["decode_seconds_per_megapixel"] > 0


def test_memory_of_a_child_holds_none_of_its_parent(dataset: Path) -> None:
    ballast = np.ones(50_000_000)  # 400 MB
    peak = speed.run_child(job(dataset, "jpeg", task="imports"))["peak_megabytes"]
    assert 10 < peak < ballast.nbytes / 1e6


def test_a_child_sees_no_more_cores_than_its_threads(dataset: Path) -> None:
    code = (
        "import importlib.util, os, sys\n"
        "spec = importlib.util.spec_from_file_location('speed', sys.argv[1])\n"
        "speed = importlib.util.module_from_spec(spec); spec.loader.exec_module(speed)\n"
        "from caecodec.benchmark.codecs import num_threads\n"
        "speed.TASKS['imports'] = lambda job: {'cores': num_threads()}\n"
        "speed.child()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(SCRIPT)],
        input=json.dumps(job(dataset, "jpeg", task="imports")),
        capture_output=True,
        text=True,
        check=True,
    )
    if sys.platform == "linux":
        assert json.loads(done.stdout)["cores"] == 1


def test_the_table_has_the_ratios_against_caecodec_at_the_same_threads() -> None:
    rows = [row("cae", 1, 2.0), row("cae", 2, 1.0), row("jpeg", 1, 0.5)]
    lines = printed(speed.codecs_table(rows, 1))
    assert ["cae", "50", "1.000", "35.00", *["2", "1"] * 4] in lines
    assert ["jpeg", "50", "1.000", "35.00", *["0.5", "0.25"] * 4] in lines
    assert ["jpeg", "50", "1.000", "35.00", *["0.5", "-"] * 4] in printed(
        speed.codecs_table(rows[2:], 1)
    )


def test_the_table_of_sizes_has_the_ratios_against_the_first_size() -> None:
    seconds = {"encode_seconds_per_megapixel": 0.2, "decode_seconds_per_megapixel": 0.4}
    first = {"threads": 1, "megapixels": 0.4, **seconds, "megabytes": 100}
    second = {**first, "megapixels": 16.0, "encode_seconds_per_megapixel": 0.3}
    lines = printed(speed.growth_table([first, second]))
    assert ["1", "16", "0.300", "1.50", "0.400", "1.00", "100"] in lines


def test_a_run_prints_its_tables_and_writes_its_numbers_with_their_circumstances(
    dataset: Path, tmp_path: Path
) -> None:
    out = tmp_path / "speed.json"
    options = ["--codecs", "jpeg,jxl", "--threads", "1", "--repeats", "1", "--out", str(out)]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(dataset), *options],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "encode s/MP" in done.stdout
    content = json.loads(out.read_text())
    assert [entry["codec"] for entry in content["codecs"]] == ["jpeg", "jxl"]
    assert content["growth"] == []
    assert content["metadata"]["images"] == 2
    assert {"machine", "cores", "torch", "libjxl", "Pillow"} <= set(content["metadata"])
    for entry in content["codecs"]:
        assert {f"{way}_megabytes" for way in ("encode", "decode")} <= set(entry)


def test_growth_is_measured_at_every_size(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = []

    def record(job: dict[str, Any]) -> dict[str, Any]:
        jobs.append(job)
        rows = [{"megapixels": size} for size in job.get("sizes", [])]
        return {"rows": rows, "peak_megabytes": 100.0 + job.get("megapixels", 0)}

    monkeypatch.setattr(speed, "run_child", record)
    rows = speed.measure_growth(job(dataset, "cae", quality=50), [0.4, 1.6])
    assert [(entry["megapixels"], entry["megabytes"]) for entry in rows] == [
        (0.4, pytest.approx(0.4)),
        (1.6, pytest.approx(1.6)),
    ]
    assert [len(child["paths"]) for child in jobs if child["task"] == "both"] == [1, 1]


def test_sizes_are_timed_in_turns(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[tuple[int, ...]] = []

    def seconds(work: Any, repeats: int) -> float:
        work()
        turns.append((len(turns), repeats))
        return float(len(turns))

    monkeypatch.setattr(speed, "warm_seconds", seconds)
    sizes = {**job(dataset, "jpeg", quality=50), "sizes": [0.01, 0.04], "repeats": 3}
    rows = speed.time_sizes(sizes)["rows"]
    assert len(turns) == 3 * 4
    assert [row["encode_seconds_per_megapixel"] for row in rows] == [5 / 0.01, 7 / 0.04]
    assert [row["decode_seconds_per_megapixel"] for row in rows] == [6 / 0.01, 8 / 0.04]
    assert rows[1]["bpp"] > 0


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "no image" in done.stderr
