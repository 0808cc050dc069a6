"""Write the figures of bench/results into the tables of the documents.

python docs/make_tables.py            rewrites what differs
python docs/make_tables.py --check    lists what differs, exit 1; tests/test_docs.py runs this

A table keeps its place and its header; its rows are made anew. Running text is not touched, so it
should hold no figure that new weights change.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import sys
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from caecodec.config import DEFAULT_EFFORT, EFFORTS
from caecodec.weights import SHIPPED
from caecodec.weights.complexity import kmac_per_pixel
from caecodec.weights.storage import find_weights

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench" / "results"

NAMES = {
    "cae": "caecodec",
    "cae-e1": "caecodec, effort 1",
    "cae-visual": "caecodec, `--tune visual`",
    "avif": "AVIF (Pillow, speed 6)",
    "avif-psnr": "AVIF, 4:4:4, tune=psnr",
    "jxl": "JPEG XL (effort 7)",
    "webp": "WebP (method 6)",
    "jp2": "JPEG 2000",
    "mozjpeg": "JPEG with mozjpeg's scan search",
    "jpeg": "JPEG (4:2:0, optimized)",
    "jpeg-444": "JPEG (4:4:4, optimized)",
}
FRONT = ("cae", "cae-e1", "avif")
SEEN = ("cae-visual", "cae", "avif-psnr", "jxl", "jpeg")
GLANCE = "| caecodec against AVIF | `--tune visual` | `--tune psnr` |"
RATES = "| codec | BD-rate against JPEG | against WebP | against AVIF | against VTM |"
ALL_RATES = (
    "| codec | BD-rate against JPEG | against WebP | against AVIF | against AVIF, tune=psnr "
    "| against VTM |"
)
VALID_RATES = (
    "| codec | BD-rate against JPEG | against WebP | against AVIF | against AVIF, tune=psnr |"
)
IMAGES = "| validation images, `--tune psnr` | BD-rate against AVIF |"
SPREAD = "| codec | quality | mean SSIMULACRA2 | standard deviation | lowest | highest |"
WARM = "| 768 x 512, warm process, 2 threads | compress | decompress |"
GROWTH = "| megapixels | encode, s/MP | decode, s/MP |"
SMALL = "| how | compress, images/s | decompress, images/s |"
OVERHEAD = "| images | mean | worst image |"
FACTS = (
    "| model | digest | parameters | file, bytes | encode, kMAC/px | decode, kMAC/px "
    "| Kodak, quality 0 to 100 |"
)
LOOKS = "| against AVIF | SSIMULACRA2 | Butteraugli | MS-SSIM | PSNR |"
TIMES = "| codec | encode, s/MP | decode, s/MP |"
CURVE = "| quality | bpp | PSNR, dB | MS-SSIM |"
BESIDE = "| quality | classic | psnr | JPEG 4:2:0, optimized |"
LIMITS = (
    "| quality | z, bpp | y, bpp | header, boxes, checksums, bpp "
    "| symbols that are not 0, per pixel | PSNR, dB |"
)
TRAINING = "| step | quality 10 | quality 50 | quality 90 |"
SCREENS = "| image | by PSNR | by SSIMULACRA2 | without lossless blocks, by PSNR | by SSIMULACRA2 |"
DRAWN = "| image | by PSNR | by SSIMULACRA2 |"
LOSSLESS = "| lossless files, bytes | caecodec | WebP (method 6) | PNG (optimised) | JPEG XL |"
REAL_FILES = "| files | accepted | metadata kept | something named as not stored | refused |"
EFFORT = (
    "| effort | psnr, by PSNR | its encoding time | visual, by SSIMULACRA2 | by MS-SSIM "
    "| its encoding time |"
)
REFINED = "| effort of `--tune visual` | SSIMULACRA2 | Butteraugli | MS-SSIM | PSNR |"

MEAN_EXCESS = "mean excess over AVIF, percent"
"""Key of the means in the results of bench/screens.py."""

Rows = list[str]


def tables() -> Iterator[tuple[str, str, list[Rows]]]:
    """Yield each document, a header that occurs in it, and the rows of its tables in order."""
    kodak, valid = (_read(name) for name in ("kodak", "valid"))
    others = [name for name in NAMES if name != "jpeg"]
    limits = json.loads((RESULTS / "limits_valid.json").read_text())
    front = ("cae", "cae-e1", "cae-visual", "avif")
    for document in ("README.md", "docs/index.md"):
        yield document, GLANCE, [_glance(kodak)]
    yield "README.md", RATES, [_rates(kodak, FRONT)]
    yield "docs/benchmarks.md", ALL_RATES, [_rates(kodak, others, "avif-psnr")]
    yield "docs/benchmarks.md", VALID_RATES, [_rates(valid, front, "avif-psnr")]
    yield "docs/benchmarks.md", LOOKS, [_looks(one, SEEN) for one in ("kodak", "valid")]
    yield "docs/benchmarks.md", IMAGES, [_images(limits["bd_rate_against_avif"])]
    yield "docs/benchmarks.md", SPREAD, [_spread(RESULTS / "valid" / "results.csv")]
    yield "docs/benchmarks.md", TIMES, [_times(kodak, NAMES)]
    checks = {name: _json(f"release_checks_{name}.json") for name in ("kodak", "valid")}
    yield "docs/benchmarks.md", WARM, [_warm(checks["kodak"]["warm"])]
    yield "docs/benchmarks.md", GROWTH, [_growth(_json("speed_by_size.json")["growth"])]
    yield "docs/benchmarks.md", SMALL, [_small(_json("small_images.json"))]
    yield "bench/results/reliability.md", OVERHEAD, [_overhead(checks)]
    yield "MODEL_CARD.md", FACTS, [_facts(kodak)]
    models = ("cae", "cae-visual", "classic")
    curves = [_curve(one, codec) for codec in models for one in (kodak, valid)]
    yield "MODEL_CARD.md", CURVE, curves
    yield "bench/results/classic.md", BESIDE, [_beside(one) for one in (kodak, valid)]
    yield "bench/results/ablations.md", LIMITS, [_limits(limits["by_quality"])]
    psnr, lean, visual = (
        RESULTS / "training" / f"{name}.valid.csv" for name in ("psnr", "psnr.lean-stage", "visual")
    )
    yield "bench/results/training/psnr.md", TRAINING, [_training(psnr), _training(lean)]
    yield "MODEL_CARD.md", TRAINING, [_training(visual)]
    yield "docs/benchmarks.md", EFFORT, [_efforts()]
    yield "docs/benchmarks.md", REFINED, [_refined()]
    yield "bench/results/reliability.md", REAL_FILES, [_real_files()]
    yield "bench/results/screens.md", SCREENS, [_screens("psnr", "psnr_before")]
    yield "bench/results/screens.md", DRAWN, [_screens("visual"), _screens("drawn")]
    yield "bench/results/screens.md", LOSSLESS, [_lossless()]


def rewritten(text: str, header: str, rows_of_tables: list[Rows]) -> str:
    """Return a document with the rows of the tables under a header replaced."""
    lines, waiting = text.splitlines(), list(rows_of_tables)
    done: list[str] = []
    while lines:
        line = lines.pop(0)
        done.append(line)
        if line != header:
            continue
        if not waiting:
            raise SystemExit(f"more tables than expected: {header}")
        done.append(lines.pop(0))
        while lines and lines[0].startswith("|"):
            lines.pop(0)
        done.extend(waiting.pop(0))
    if waiting:
        raise SystemExit(f"a table is missing: {header}")
    return "\n".join(done) + "\n"


def main() -> None:
    """Rewrite the documents, or compare them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    stale = []
    for document, header, rows_of_tables in tables():
        path = ROOT / document
        text = path.read_text(encoding="utf-8")
        new = rewritten(text, header, rows_of_tables)
        if new != text:
            stale.append(f"{document}: {header}")
            if not check:
                path.write_text(new, encoding="utf-8")
    for line in stale:
        print(line)  # noqa: T201 - what the command is for
    sys.exit(1 if check and stale else 0)


def _read(name: str) -> dict[str, Any]:
    return _json(f"{name}/results.json")


def _json(path: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((RESULTS / path).read_text())
    return content


def _glance(results: dict[str, Any]) -> Rows:
    """Return what the README's first screen shows: sizes and times against AVIF."""
    codecs = ("cae-visual", "cae")
    metrics = ("SSIMULACRA2", "Butteraugli", "MS-SSIM", "PSNR")
    rates = zip(*(_against_avif("kodak", codec) for codec in codecs), strict=True)
    rows = [
        f"| size at equal {metric} | " + " | ".join(_percent(rate) for rate in pair) + " |"
        for metric, pair in zip(metrics, rates, strict=True)
    ]
    screens = [_json(f"screens/{name}.json")[MEAN_EXCESS]["psnr"] for name in ("visual", "psnr")]
    rows.append(f"| size of screenshots at equal PSNR | {' | '.join(map(_percent, screens))} |")
    for way in ("encode", "decode"):
        avif = _seconds(results, "avif", way)
        times = (f"{_seconds(results, codec, way) / avif:.2g} times as long" for codec in codecs)
        rows.append(f"| time to {way}, one core | " + " | ".join(times) + " |")
    return rows


def _rates(results: dict[str, Any], codecs: Iterable[str], *more: str) -> Rows:
    anchors = [results["bd_rates"][one] for one in ("jpeg", "webp", "avif", *more)]
    if "vtm" in results["published"]:
        anchors.append(results["published"]["vtm"]["bd_rates"])
    return [
        f"| {NAMES[codec]} | " + " | ".join(_percent(rates[codec]) for rates in anchors) + " |"
        for codec in codecs
    ]


def _looks(name: str, codecs: Iterable[str]) -> Rows:
    """Return BD-rates against AVIF by each metric."""
    return [
        f"| {NAMES[codec]} | " + " | ".join(map(_percent, _against_avif(name, codec))) + " |"
        for codec in codecs
    ]


def _against_avif(name: str, codec: str) -> list[float | None]:
    """Return a codec's BD-rates by SSIMULACRA2, Butteraugli, MS-SSIM and PSNR."""
    results = _read(name)
    seen, ms_ssim = (
        results["bd_rates_by_metric"][metric]["avif"][codec]["percent"]
        for metric in ("ssimulacra2", "ms_ssim")
    )
    butteraugli = _json(f"{name}/butteraugli.json")["bd_rates"]["avif"][codec]
    return [seen, butteraugli, ms_ssim, results["bd_rates"]["avif"][codec]]


def _percent(value: float | None) -> str:
    return "no overlap" if value is None else f"{value:+.1f} %".replace("-", "−")


def _is_screenshot(name: str) -> bool:
    return "screen" in name


def _screens(*names: str) -> Rows:
    """Return the excess over AVIF of every image and their mean, in one or more runs."""
    runs = [_json(f"screens/{name}.json") for name in names]
    metrics = ("psnr", "ssimulacra2")
    rows = []
    for image in runs[0]["images"]:
        cells = [_percent(run["images"][image][metric]) for run in runs for metric in metrics]
        rows.append(f"| {image.removesuffix('_screen')} | {' | '.join(cells)} |")
    cells = [_percent(run[MEAN_EXCESS][metric]) for run in runs for metric in metrics]
    return [*rows, f"| mean | {' | '.join(cells)} |"]


def _real_files() -> Rows:
    """Return what became of the files of public corpora, by suffix where there are twenty."""
    by_suffix = _json("real_files.json")["suffixes"]
    fields = ("accepted", "kept", "named", "refused")
    rows = {"all others": dict.fromkeys(fields, 0)}
    for suffix, counts in by_suffix.items():
        is_common = counts.get("accepted", 0) + counts.get("refused", 0) >= 20
        row = rows.setdefault(
            f"`{suffix}`" if is_common else "all others", dict.fromkeys(fields, 0)
        )
        for field in fields:
            row[field] += counts.get(field, 0)
    rows["all others"] = rows.pop("all others")
    rows["together"] = {field: sum(row[field] for row in rows.values()) for field in fields}
    return [
        f"| {name} | {' | '.join(f'{row[field]:,}' for field in fields)} |"
        for name, row in rows.items()
    ]


def _lossless() -> Rows:
    """Return the total bytes of lossless files of photographs and of screenshots."""
    sizes = _json("screens/lossless.json")["images"]
    rows = []
    for kind, is_screen in (("photographs", False), ("screenshots", True)):
        chosen = [row for name, row in sizes.items() if _is_screenshot(name) == is_screen]
        totals = (sum(row[codec] for row in chosen) for codec in ("cae", "webp", "png", "jxl"))
        cells = " | ".join(f"{total:,}" for total in totals)
        rows.append(f"| {len(chosen)} validation {kind} | {cells} |")
    return rows


def _images(by_image: dict[str, float]) -> Rows:
    """Return the best, the median and the worst photograph."""
    photographs = sorted(rate for name, rate in by_image.items() if not _is_screenshot(name))
    shown = {
        f"best of {len(photographs)} photographs": photographs[0],
        "median photograph": statistics.median(photographs),
        "worst photograph": photographs[-1],
    }
    return [f"| {name} | {_percent(rate)} |" for name, rate in shown.items()]


def _spread(path: Path) -> Rows:
    """Return how much SSIMULACRA2 differs between images at one quality near 55."""
    with path.open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    lines = []
    for codec, quality in {"cae-visual": 50, "cae": 50, "avif": 40, "jxl": 50}.items():
        scores = [
            float(row["ssimulacra2"])
            for row in rows
            if row["codec"] == codec and float(row["quality"]) == quality
        ]
        values = (statistics.fmean(scores), statistics.pstdev(scores), min(scores), max(scores))
        figures = " | ".join(f"{value:.1f}" for value in values)
        lines.append(f"| {NAMES[codec]} | {quality} | {figures} |")
    return lines


def _seconds(results: dict[str, Any], codec: str, way: str) -> float:
    """Return the median over qualities of seconds per megapixel."""
    points = [point for point in results["points"] if point["codec"] == codec]
    return statistics.median(point[f"{way}_seconds_per_megapixel"] for point in points)


def _times(results: dict[str, Any], codecs: dict[str, str]) -> Rows:
    return [
        f"| {name} | "
        + " | ".join(f"{_seconds(results, codec, way):.3f}" for way in ("encode", "decode"))
        + " |"
        for codec, name in codecs.items()
    ]


def _warm(warm: dict[str, float]) -> Rows:
    ways = ("encode", "decode")
    megapixels = 768 * 512 / 1e6
    seconds = " | ".join(f"{warm[f'{way}_seconds']:.2f}" for way in ways)
    rates = " | ".join(f"{warm[f'{way}_seconds'] / megapixels:.2f}" for way in ways)
    parts = " | ".join(f"{warm[f'{way}_times_gemm']:.2f}" for way in ways)
    return [
        f"| seconds | {seconds} |",
        f"| seconds per megapixel | {rates} |",
        f"| relative to the matrix product | {parts} |",
    ]


def _growth(growth: list[dict[str, float]]) -> Rows:
    return [
        f"| {row['megapixels']:g} | {row['encode_seconds_per_megapixel']:.2f} "
        f"| {row['decode_seconds_per_megapixel']:.2f} |"
        for row in growth
    ]


def _small(small: dict[str, float]) -> Rows:
    ways = {
        "one call": ("one compress, -j 1", "one decompress, -j 1"),
        "one call, `-j 2`": ("one compress, -j 2", "one decompress, -j 2"),
        "one process per image (measured on 40)": (
            "a process for each compress",
            "a process for each decompress",
        ),
        "Pillow's AVIF, speed 6, in one process": ("AVIF encode", "AVIF decode"),
    }
    return [
        f"| {way} | " + " | ".join(f"{small[name]:.3g}" for name in names) + " |"
        for way, names in ways.items()
    ]


def _overhead(checks: dict[str, dict[str, Any]]) -> Rows:
    names = {"kodak": "Kodak", "valid": "validation"}
    return [
        f"| {names[name]} | {_percent(one['rate']['mean_percent_above_tables'])} "
        f"| {_percent(one['rate']['worst_percent_above_tables'])} |"
        for name, one in checks.items()
    ]


def _facts(results: dict[str, Any]) -> Rows:
    """Return what each shipped model is, and its rates."""
    rows = []
    for model, codec in {"psnr": "cae", "visual": "cae-visual", "classic": "classic"}.items():
        weights = find_weights(model)
        encode, decode = kmac_per_pixel(weights.config)
        size = weights.path.stat().st_size if weights.path else 0
        rates = [point["bpp"] for point in results["points"] if point["codec"] == codec]
        rows.append(
            f"| `{model}` | `{SHIPPED[model]}` | {weights.num_parameters:,} | {size:,} "
            f"| {encode:.1f} | {decode:.1f} | {min(rates):.3f} to {max(rates):.3g} bpp |"
        )
    return rows


def _efforts() -> Rows:
    """Return BD-rates against effort 1, and ratios to the default's median of time, by effort."""
    psnr, visual = (_read(f"effort/{tune}") for tune in ("psnr", "visual"))
    by_metric = visual["bd_rates_by_metric"]
    seen, structure = (by_metric[metric]["cae-e1"] for metric in ("ssimulacra2", "ms_ssim"))
    rows = []
    for effort in EFFORTS:
        codec = "cae" if effort == DEFAULT_EFFORT else f"cae-e{effort}"
        rates = (
            psnr["bd_rates"]["cae-e1"][codec],
            *(one[codec]["percent"] for one in (seen, structure)),
        )
        by_psnr, by_look, by_structure = map(_percent, rates)
        ratios = [
            _encode_seconds(one, codec) / _encode_seconds(one, "cae") for one in (psnr, visual)
        ]
        times = [f"{ratio:.2g}" if ratio < 10 else f"{ratio:.0f}" for ratio in ratios]
        rows.append(
            f"| {effort} | {by_psnr} | {times[0]} | {by_look} | {by_structure} | {times[1]} |"
        )
    return rows


def _refined() -> Rows:
    """Return BD-rates of visual against AVIF on Kodak, without refinement and with one step."""
    curves = {3: ("kodak", "cae-visual"), 5: ("effort/kodak", "cae-e5")}
    return [
        f"| {effort} | " + " | ".join(map(_percent, _against_avif(*curve))) + " |"
        for effort, curve in curves.items()
    ]


def _encode_seconds(results: dict[str, Any], codec: str) -> float:
    return statistics.median(
        point["encode_seconds_per_megapixel"]
        for point in results["points"]
        if point["codec"] == codec
    )


def _curve(results: dict[str, Any], codec: str) -> Rows:
    return [
        f"| {point['quality']:.0f} | {point['bpp']:.3f} | {point['psnr']:.2f} "
        f"| {point['ms_ssim']:.4f} |"
        for point in results["points"]
        if point["codec"] == codec
    ]


def _beside(results: dict[str, Any]) -> Rows:
    points = {(point["codec"], point["quality"]): point for point in results["points"]}
    return [
        f"| {quality} | "
        + " | ".join(
            f"{points[codec, quality]['bpp']:.3f} bpp, {points[codec, quality]['psnr']:.2f} dB"
            for codec in ("classic", "cae", "jpeg")
        )
        + " |"
        for quality in (10, 30, 50, 70, 90)
    ]


def _limits(rows: list[dict[str, Any]]) -> Rows:
    return [
        f"| {row['quality']} | {row['z_bpp']:.4f} | {row['y_bpp']:.4f} | {row['rest_bpp']:.4f} "
        f"| {row['nonzero_per_pixel']:.3f} | {row['psnr']:.2f} |"
        for row in rows
    ]


def _training(log: Path) -> Rows:
    """Return the first steps, the first of every 5,000, and the last."""
    by_step: dict[int, list[str]] = {}
    with log.open(newline="") as handle:
        for row in csv.DictReader(handle):
            values = f"{float(row['bpp']):.3f} bpp, {float(row['psnr']):.2f} dB"
            by_step.setdefault(int(row["step"]), []).append(values)
    steps = list(by_step)
    passing = (two for one, two in pairwise(steps) if two // 5000 > one // 5000)
    shown = {*steps[:4], *passing, *steps[-1:]}
    return [f"| {step:,} | " + " | ".join(by_step[step]) + " |" for step in sorted(shown)]


if __name__ == "__main__":
    main()
