"""The promises of the benchmark: rates are real bytes, means are means, results can be read."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from rich.console import Console

from caecodec.benchmark import codecs as codecs_module
from caecodec.benchmark.bd_rate import METRICS, bd_matrix, bd_rates
from caecodec.benchmark.codecs import (
    CAE_QUALITIES,
    CODEC_NAMES,
    ImageCodec,
    is_cae,
    library_versions,
    make_codecs,
)
from caecodec.benchmark.equal_size import at_equal_size
from caecodec.benchmark.measure import (
    Point,
    Record,
    load_dataset,
    run_benchmark,
    summarize,
)
from caecodec.benchmark.plot import plot_name
from caecodec.benchmark.report import Picture, write_page
from caecodec.benchmark.results import format_table, read_records, write_results
from caecodec.config import EFFORTS
from caecodec.errors import ConfigError, ImageError

pytestmark = pytest.mark.slow

ALL_CURVES = [
    "cae",
    *(f"cae-e{effort}" for effort in EFFORTS),
    *("cae-visual", "cae-psnr", "classic"),
    "png",
    "jpeg",
    "jpeg-444",
    "mozjpeg",
    "webp",
    "jp2",
    "jxl",
    "avif",
    "avif-psnr",
]


class WebPModel:
    """Stands in for a `caecodec.codec.codec.Codec`, so that these tests need no weights."""

    def compress(self, image: Image.Image, *, quality: float, effort: int = 3) -> bytes:  # noqa: ARG002
        buffer = io.BytesIO()
        image.save(buffer, format="WEBP", quality=quality, method=0)
        return buffer.getvalue()

    def decompress(self, data: bytes) -> Image.Image:
        return Image.open(io.BytesIO(data)).convert("RGB")


MODELS = {name: WebPModel() for name in CODEC_NAMES if is_cae(name)}


def smooth_noise(width: int, height: int, *, seed: int = 0) -> Image.Image:
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def make_point(codec: str, bpp: float, psnr: float, *, quality: float = 50) -> Point:
    return Point(codec, quality, 1, bpp, psnr, None, 0.1, 0.1)


def make_curve(codec: str, *, factor: float = 1.0, shift: float = 0.0) -> list[Point]:
    """PSNR of 30 dB at factor bpp, 5 dB more for every doubling."""
    octaves = range(-2, 3)
    return [make_point(codec, factor * 2.0**k, shift + 30 + 5 * k, quality=k + 2) for k in octaves]


@pytest.fixture(scope="module")
def images() -> list[tuple[str, Image.Image]]:
    return [("a", smooth_noise(192, 176)), ("b", smooth_noise(96, 64, seed=1))]


@pytest.fixture(scope="module")
def records(images: list[tuple[str, Image.Image]]) -> list[Record]:
    return run_benchmark(
        images,
        make_codecs(CODEC_NAMES, models=MODELS, qualities=[20, 50, 80]),
    )


def test_each_codec_has_the_curves_and_qualities_that_it_names() -> None:
    codecs = make_codecs([*reversed(CODEC_NAMES), "png"], models=MODELS)
    assert [codec.name for codec in codecs] == ALL_CURVES
    assert codecs[0].qualities == CAE_QUALITIES == tuple(range(0, 101, 10))
    assert [codec.name for codec in codecs if codec.is_lossless] == ["png"]
    assert [len(codec.qualities) for codec in codecs if codec.is_lossless] == [1]
    assert all(list(codec.qualities) == sorted(set(codec.qualities)) for codec in codecs)


def test_avif_tuned_for_psnr_is_coded_at_4_4_4_and_the_default_at_4_2_0(
    images: list[tuple[str, Image.Image]],
) -> None:
    subsampling = {}
    for codec in make_codecs(["avif", "avif-psnr"]):
        data = codec.encode(images[0][1], 60)
        flags = data[data.index(b"av1C") + 6]  # of AV1CodecConfigurationRecord, third byte
        subsampling[codec.name] = flags >> 2 & 3
    assert subsampling == {"avif": 3, "avif-psnr": 0}


def test_given_qualities_replace_those_of_every_lossy_codec() -> None:
    codecs = make_codecs(CODEC_NAMES, models=MODELS, qualities=[70, 30, 70])
    assert {codec.qualities for codec in codecs if not codec.is_lossless} == {(30.0, 70.0)}
    assert [codec.qualities for codec in codecs if codec.is_lossless] == [(100.0,)]


def test_only_caecodec_takes_a_fraction_as_quality() -> None:
    assert make_codecs(["cae"], models=MODELS, qualities=[12.5])[0].qualities == (12.5,)
    with pytest.raises(ConfigError, match="whole number for jpeg"):
        make_codecs(["cae", "jpeg"], models=MODELS, qualities=[12.5])


@pytest.mark.parametrize("qualities", [[-1], [101], [math.nan], []])
def test_a_quality_outside_0_to_100_is_refused(qualities: list[float]) -> None:
    with pytest.raises(ConfigError, match="quality"):
        make_codecs(["webp"], qualities=qualities)


def test_an_unknown_codec_is_refused_with_the_valid_names() -> None:
    with pytest.raises(
        ConfigError,
        match=r"'heic'.*cae, cae-e1, .*cae-e9, cae-visual, cae-psnr, classic, png, .*jxl, avif",
    ):
        make_codecs(["jpeg", "heic"])


def test_caecodec_without_a_model_is_refused() -> None:
    with pytest.raises(ConfigError, match="no model"):
        make_codecs(["cae"])


def test_the_two_jpeg_curves_differ_in_chroma_subsampling() -> None:
    image = smooth_noise(64, 64)
    sampling = []
    for codec in make_codecs(["jpeg"], qualities=[50]):
        decoded = codec.decode(codec.encode(image, 50))
        assert isinstance(decoded, JpegImageFile)
        sampling.append([layer[1:3] for layer in decoded.layer])
    assert sampling == [[(2, 2), (1, 1), (1, 1)], [(1, 1), (1, 1), (1, 1)]]


def test_library_versions_name_what_made_the_bytes() -> None:
    versions = library_versions(CODEC_NAMES)
    package = "mozjpeg-lossless-optimization"
    libraries = {"libjpeg-turbo", "libwebp", "OpenJPEG", "libavif", "libjxl"}
    assert set(versions) == {"Pillow", "imagecodecs", package, *libraries}
    assert all(re.match(r"\d+\.\d+", version) for version in versions.values())
    assert set(library_versions(["cae", "webp"])) == {"Pillow", "libwebp"}


@pytest.mark.parametrize(
    ("name", "module"), [("jxl", "imagecodecs"), ("mozjpeg", "mozjpeg_lossless_optimization")]
)
def test_a_codec_without_its_package_is_refused_before_any_work_and_only_if_asked_for(
    monkeypatch: pytest.MonkeyPatch, name: str, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=rf"{module}.*caecodec\[bench\]"):
        make_codecs(["jpeg", name])
    others = [other for other in CODEC_NAMES if other != name]
    assert name not in {codec.name for codec in make_codecs(others, models=MODELS)}
    assert library_versions(others)


def test_mozjpeg_changes_the_scans_of_a_jpeg_and_none_of_its_pixels() -> None:
    image = smooth_noise(128, 96)
    jpeg, _, mozjpeg = make_codecs(["jpeg", "mozjpeg"])
    data = mozjpeg.encode(image, 80)
    decoded = mozjpeg.decode(data)
    assert decoded.info["progressive"]
    assert decoded.tobytes() == jpeg.decode(jpeg.encode(image, 80)).tobytes()
    assert data != jpeg.encode(image, 80)


def test_jpeg_2000_is_made_to_the_rate_of_its_quality_with_the_lossy_wavelet() -> None:
    random = np.random.default_rng(0)
    image = Image.fromarray(random.integers(0, 256, (256, 256, 3), dtype=np.uint8))
    (codec,) = make_codecs(["jp2"])
    for quality, rate in [(50, 0.6), (75, 1.9)]:
        data = codec.encode(image, quality)
        assert 8 * len(data) / 256**2 == pytest.approx(rate, rel=0.1)
    style = data[data.index(b"\xff\x52") :]  # COD: marker, length, style, progression, layers, ...
    assert (style[8], style[13]) == (1, 0)  # colour transform; 9/7 wavelet


def test_jpeg_2000_leaves_the_environment_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    (codec,) = make_codecs(["jp2"])
    for value in (None, "3"):
        monkeypatch.delenv("OPJ_NUM_THREADS", raising=False)
        if value:
            monkeypatch.setenv("OPJ_NUM_THREADS", value)
        codec.decode(codec.encode(smooth_noise(16, 16), 50))
        assert os.environ.get("OPJ_NUM_THREADS") == value


def test_jpeg_xl_is_lossy_at_quality_100_too() -> None:
    image = smooth_noise(64, 48)
    (codec,) = make_codecs(["jxl"])
    sizes = [len(codec.encode(image, quality)) for quality in (0, 30, 60, 90, 100)]
    assert sizes == sorted(sizes)
    decoded = codec.decode(codec.encode(image, 100))
    assert decoded.tobytes() != image.tobytes()
    assert decoded.mode == "RGB"


def test_threads_change_no_byte_of_jpeg_xl_and_jpeg_2000(monkeypatch: pytest.MonkeyPatch) -> None:
    image = smooth_noise(320, 272)
    for codec in make_codecs(["jxl", "jp2"]):
        files = set()
        for threads in (1, 2, 4):
            monkeypatch.setattr(codecs_module, "num_threads", lambda count=threads: count)
            files.add(codec.encode(image, 80))
        assert len(files) == 1


@pytest.mark.parametrize("size", [(1, 1), (7, 1), (1, 40), (17, 33)])
def test_codecs_take_images_as_small_as_a_pixel(size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, (200, 100, 50))
    for codec in make_codecs(["jp2", "jxl", "mozjpeg"]):
        assert codec.decode(codec.encode(image, 50)).size == size


def test_every_rate_is_the_length_of_the_encoded_bytes(
    images: list[tuple[str, Image.Image]], records: list[Record]
) -> None:
    by_name = dict(images)
    codecs = {codec.name: codec for codec in make_codecs(CODEC_NAMES, models=MODELS)}
    assert {record.codec for record in records} == set(ALL_CURVES)
    for record in records:
        image = by_name[record.image]
        data = codecs[record.codec].encode(image, record.quality)
        assert record.num_bytes == len(data)
        assert record.bpp == 8 * len(data) / (image.width * image.height)
        assert (record.width, record.height) == image.size
        assert min(record.encode_seconds, record.decode_seconds) > 0


def test_a_lossless_codec_returns_the_image_itself(records: list[Record]) -> None:
    assert all(math.isinf(record.psnr) == (record.codec == "png") for record in records)


def test_ms_ssim_is_absent_when_a_side_is_160_pixels_or_less() -> None:
    sizes = [(161, 170), (160, 170), (170, 160)]
    images = [(str(size), smooth_noise(*size)) for size in sizes]
    records = run_benchmark(images, make_codecs(["webp"], qualities=[80]))
    assert 0.5 < (records[0].ms_ssim or 0) < 1
    assert records[1].ms_ssim is records[2].ms_ssim is None


def test_ssimulacra2_is_measured_on_request() -> None:
    image = smooth_noise(192, 176)
    codecs = make_codecs(["jpeg", "png"], qualities=[30, 90])
    records = run_benchmark([("a", image)], codecs, with_ssimulacra2=True)
    by_curve = {(record.codec, record.quality): record.ssimulacra2 or 0 for record in records}
    assert by_curve["jpeg", 30] < by_curve["jpeg", 90] < 100
    assert by_curve["png", 100] == pytest.approx(100, abs=1e-6)
    points = summarize(records)
    assert {point.ssimulacra2 for point in points} == set(by_curve.values())
    console = Console(width=140, file=io.StringIO())
    console.print(format_table(points, {}))
    assert "SSIMULACRA2" in console.file.getvalue()


def test_metrics_of_files_that_are_the_same_come_from_an_earlier_run(tmp_path: Path) -> None:
    images = [("a", smooth_noise(192, 176))]
    first = run_benchmark(images, make_codecs(["jpeg"], qualities=[30, 90]), with_ssimulacra2=True)
    marked = [dataclasses.replace(record, ms_ssim=0.5, ssimulacra2=50.0) for record in first]
    marked[1] = dataclasses.replace(marked[1], num_bytes=marked[1].num_bytes + 1)
    write_results(tmp_path, marked, summarize(marked), {}, metadata={})
    again = run_benchmark(
        images,
        make_codecs(["jpeg"], qualities=[30, 90]),
        with_ssimulacra2=True,
        known=read_records(tmp_path / "results.csv"),
    )
    assert (again[0].ms_ssim, again[0].ssimulacra2) == (0.5, 50.0)
    assert (again[1].ms_ssim, again[1].ssimulacra2) == (first[1].ms_ssim, first[1].ssimulacra2)
    assert again[0].encode_seconds != first[0].encode_seconds


def test_a_file_that_holds_no_results_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "other.csv"
    path.write_text("image,codec\na,jpeg\n")
    with pytest.raises(ConfigError, match=r"other\.csv is no results\.csv"):
        read_records(path)
    with pytest.raises(ConfigError, match=r"missing\.csv is no results\.csv"):
        read_records(tmp_path / "missing.csv")


def test_ms_ssim_of_an_equal_image_is_1(records: list[Record]) -> None:
    lossless = [record.ms_ssim for record in records if record.codec == "png"]
    assert lossless == [pytest.approx(1), None]


def test_progress_counts_every_record_and_no_warm_up(images: list[tuple[str, Image.Image]]) -> None:
    calls: list[tuple[int, int]] = []
    codecs = make_codecs(["jpeg", "png"], qualities=[50])
    run_benchmark(images, codecs, on_progress=lambda done, total, _: calls.append((done, total)))
    assert calls == [(done, 6) for done in range(1, 7)]


def test_each_codec_runs_once_before_it_is_timed() -> None:
    encoded: list[float] = []

    def encode(image: Image.Image, quality: float) -> bytes:
        encoded.append(quality)
        return WebPModel().compress(image, quality=quality)

    codec = ImageCodec("spy", encode, WebPModel().decompress, (20.0, 60.0), is_lossless=False)
    assert len(run_benchmark([("a", smooth_noise(16, 16))], [codec])) == 2
    assert encoded == [20.0, 20.0, 60.0]


def test_a_codec_that_changes_the_size_is_refused() -> None:
    codec = dataclasses.replace(
        make_codecs(["webp"], qualities=[50])[0], decode=lambda _: smooth_noise(16, 16)
    )
    with pytest.raises(ImageError, match="shape"):
        run_benchmark([("a", smooth_noise(24, 16))], [codec])


def test_summarize_averages_each_codec_and_quality_over_images() -> None:
    first = Record("a", "webp", 50, 1000, 1000, 125_000, 1.0, 30.0, 0.9, 2.0, 0.2)
    second = dataclasses.replace(
        first, image="b", height=500, bpp=2.0, psnr=35.0, ms_ssim=None, encode_seconds=3.0
    )
    other = dataclasses.replace(first, quality=60, ms_ssim=None)
    points = summarize([first, other, second])
    assert [(point.codec, point.quality, point.num_images) for point in points] == [
        ("webp", 50, 2),
        ("webp", 60, 1),
    ]
    assert (points[0].bpp, points[0].psnr, points[0].ms_ssim) == (1.5, 32.5, 0.9)
    assert points[0].encode_seconds_per_megapixel == pytest.approx(4.0)
    assert points[0].decode_seconds_per_megapixel == pytest.approx(0.3)
    assert points[1].ms_ssim is None


def test_an_image_that_comes_back_equal_counts_as_99_decibels_in_a_mean() -> None:
    lossy = Record("a", "cae", 50, 1000, 1000, 1, 1.0, 41.0, 0.9, 1.0, 1.0)
    equal = dataclasses.replace(lossy, image="b", psnr=math.inf)
    assert summarize([lossy, equal])[0].psnr == 70
    assert summarize([lossy, dataclasses.replace(equal, psnr=108.0)])[0].psnr == 70
    assert math.isinf(summarize([equal, equal])[0].psnr)


def test_a_curve_that_becomes_lossless_goes_through_every_result(tmp_path: Path) -> None:
    record = Record("a", "cae", 0, 256, 256, 1, 1.0, 30.0, 0.9, 0.1, 0.1, 50.0)
    records = [
        dataclasses.replace(record, codec=codec, quality=q, bpp=2 ** (q / 20), psnr=25 + q / 5)
        for codec in ("cae", "jpeg")
        for q in CAE_QUALITIES
    ]
    known = bd_matrix(summarize(records))
    flat = [
        dataclasses.replace(one, psnr=math.inf, ms_ssim=1.0, ssimulacra2=100.0)
        if one.codec == "cae" and one.quality > 70
        else one
        for one in records
    ]
    points = summarize(flat)
    rates = {metric: bd_matrix(points, metric=metric) for metric in METRICS}
    assert rates["psnr"]["jpeg"] == pytest.approx(known["jpeg"], abs=1e-6)
    lossless = [dataclasses.replace(one, psnr=math.inf) for one in points if one.codec == "cae"]
    others = [one for one in points if one.codec == "jpeg"]
    assert bd_matrix([*lossless, *others]) == {"jpeg": {"jpeg": pytest.approx(0)}}
    write_results(tmp_path, flat, points, rates.pop("psnr"), metadata={}, others=rates)
    content = json.loads((tmp_path / "results.json").read_text(), parse_constant=pytest.fail)
    levels = [point["psnr"] for point in content["points"] if point["codec"] == "cae"]
    assert levels == [*(25 + q / 5 for q in CAE_QUALITIES[:8]), None, None, None]
    console = Console(width=120, file=io.StringIO())
    console.print(format_table(points, {}))
    assert console.file.getvalue().count("lossless") == 3
    for metric in METRICS:
        text = (tmp_path / plot_name(metric)).read_text()
        assert not re.search(r"\b(nan|inf)\b", text)


def test_an_equal_version_is_lossless_on_a_page(tmp_path: Path) -> None:
    image = smooth_noise(24, 16)
    png = dataclasses.replace(make_codecs(["png"])[0], is_lossless=False)
    picture = Picture("a", image, at_equal_size([png], image, 24))
    write_page(tmp_path / "a.html", title="", subtitle="", sections=[], pictures=[picture])
    text = (tmp_path / "a.html").read_text()
    assert re.search(r"bytes, [\d.]+ bpp, lossless", text)
    assert "inf dB" not in text


def test_times_per_megapixel_are_medians_so_one_slow_image_does_not_matter() -> None:
    record = Record("a", "webp", 50, 1000, 1000, 1, 1.0, 30.0, None, 1.0, 1.0)
    slow = dataclasses.replace(record, encode_seconds=90.0, decode_seconds=90.0)
    point = summarize([record, slow, record])[0]
    assert point.encode_seconds_per_megapixel == point.decode_seconds_per_megapixel == 1.0


def test_bd_rate_of_a_curve_against_itself_is_0() -> None:
    points = make_curve("jpeg") + make_curve("webp")
    assert bd_rates(points) == pytest.approx({"jpeg": 0, "webp": 0})


@pytest.mark.parametrize(("factor", "percent"), [(0.5, -50), (2, 100), (0.9, -10)])
def test_bd_rate_of_a_multiple_of_the_rate_is_that_change(factor: float, percent: float) -> None:
    points = make_curve("jpeg") + make_curve("webp", factor=factor)
    assert bd_rates(points)["webp"] == pytest.approx(percent)


def test_bd_rate_is_absent_for_curves_that_do_not_overlap() -> None:
    points = make_curve("jpeg") + make_curve("webp", shift=20)
    assert bd_rates(points) == {"jpeg": pytest.approx(0), "webp": None}


def test_bd_rate_is_absent_below_four_points_or_without_the_anchor() -> None:
    points = make_curve("jpeg") + make_curve("webp")[:3]
    assert bd_rates(points)["webp"] is None
    assert bd_rates(points, "avif") == {"jpeg": None, "webp": None}


def test_bd_rate_leaves_out_lossless_codecs_and_points_that_gain_nothing() -> None:
    wasted = make_point("webp", 8.0, 39.0)
    lossless = make_point("png", 10.0, math.inf)
    points = [*make_curve("jpeg"), *make_curve("webp", factor=0.5), wasted, lossless]
    assert bd_rates(points) == pytest.approx({"jpeg": 0, "webp": -50})


def test_bd_rate_of_caecodec_uses_10_to_90_of_its_default_qualities() -> None:
    good = [make_point("cae", 2 ** (q / 20), 25 + q / 5, quality=q) for q in CAE_QUALITIES]
    bad_end = [dataclasses.replace(good[0], bpp=0.01), *good[1:-1]]
    inner = make_curve("jpeg") + good[1:-1]
    assert bd_rates([*make_curve("jpeg"), *bad_end, good[-1]]) == bd_rates(inner)
    assert bd_rates([*make_curve("jpeg"), *bad_end]) != bd_rates(inner)
    lossless_end = dataclasses.replace(good[-1], psnr=math.inf)
    assert bd_rates([*make_curve("jpeg"), *bad_end, lossless_end]) == bd_rates(inner)


def test_the_bd_matrix_compares_every_lossy_codec_with_every_anchor_present() -> None:
    points = [*make_curve("jpeg"), *make_curve("webp", factor=0.5), make_point("png", 9, math.inf)]
    assert bd_matrix(points) == {
        "jpeg": pytest.approx({"jpeg": 0, "webp": -50}),
        "webp": pytest.approx({"jpeg": 100, "webp": 0}),
    }


def test_the_table_has_one_row_per_point_and_the_bd_rates() -> None:
    points = [*make_curve("jpeg"), *make_curve("webp", factor=0.5), make_point("png", 9, math.inf)]
    console = Console(width=100, file=io.StringIO(), record=True)
    console.print(format_table(points, bd_matrix(points)))
    lines = console.export_text().splitlines()
    assert sum("0.100" in line for line in lines) == len(points)
    assert any(line.split() == ["webp", "-50.0", "-"] for line in lines)
    assert any("lossless" in line for line in lines)


def test_results_are_written_as_csv_json_svg_and_png(tmp_path: Path, records: list[Record]) -> None:
    points = summarize(records)
    bd = bd_matrix(points)
    folder = tmp_path / "new" / "results"
    write_results(folder, records, points, bd, metadata={"dataset": "noise", "seed": 0})
    with (folder / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [field.name for field in dataclasses.fields(Record)]
    assert [int(row["num_bytes"]) for row in rows] == [record.num_bytes for record in records]
    assert {row["ms_ssim"] for row in rows if row["image"] == "b"} == {""}
    content = json.loads((folder / "results.json").read_text())
    assert content["metadata"] == {"dataset": "noise", "seed": 0}
    assert content["bd_rates"] == bd
    assert len(content["points"]) == len(points)
    assert [point["psnr"] for point in content["points"] if point["codec"] == "png"] == [None]
    assert ET.parse(folder / "rd.svg").getroot().tag.endswith("svg")
    with Image.open(folder / "rd.png") as plot:
        plot.verify()


def test_the_same_results_give_the_same_bytes(tmp_path: Path, records: list[Record]) -> None:
    points = summarize(records)
    for name in ("one", "two"):
        write_results(tmp_path / name, records, points, bd_matrix(points), metadata={})
    for file in ("results.csv", "results.json", "rd.svg", "rd.png"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_a_benchmark_of_png_alone_can_be_written(tmp_path: Path) -> None:
    records = run_benchmark([("a", smooth_noise(16, 16))], make_codecs(["png"]))
    write_results(tmp_path, records, summarize(records), {}, metadata={"dataset": "noise"})
    assert (tmp_path / "rd.png").stat().st_size > 0


def test_a_dataset_is_every_image_below_the_folder_in_order_as_rgb(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "notes.txt").write_text("no image")
    image = smooth_noise(24, 16)
    image.convert("L").save(tmp_path / "sub" / "gray.png")
    image.convert("P").save(tmp_path / "b.PNG", transparency=b"\x00\x80")
    image.convert("RGBA").save(tmp_path / "a.webp", lossless=True)
    images = load_dataset(tmp_path)
    assert [name for name, _ in images] == ["a.webp", "b.PNG", "sub/gray.png"]
    assert {(image.mode, image.size) for _, image in images} == {("RGB", (24, 16))}


def test_a_dataset_leaves_metadata_behind(tmp_path: Path) -> None:
    smooth_noise(24, 16).save(tmp_path / "a.png", icc_profile=b"x" * 500)
    assert load_dataset(tmp_path)[0][1].info == {}


def test_a_dataset_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no image"):
        load_dataset(tmp_path)
    with pytest.raises(ImageError, match="not a folder"):
        load_dataset(tmp_path / "missing")


def test_a_damaged_or_16_bit_image_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(ImageError, match="8 bits"):
        load_dataset(tmp_path)
    (tmp_path / "deep.png").write_bytes(b"not an image")
    with pytest.raises(ImageError, match=r"cannot decode .*deep\.png"):
        load_dataset(tmp_path)


def test_a_missing_dependency_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bjontegaard", None)
    with pytest.raises(ConfigError, match=r"bjontegaard.*caecodec\[bench\]"):
        bd_rates(make_curve("jpeg"))


def test_importing_the_benchmark_loads_neither_torch_nor_matplotlib() -> None:
    code = (
        "import sys, caecodec.benchmark.results, caecodec.image.metrics; "
        "assert not {'torch', 'matplotlib', 'scipy', 'imagecodecs'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
