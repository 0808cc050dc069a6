"""Write the figures of bench/results into the tables of the documents.

python docs/make_tables.py            rewrites what differs
python docs/make_tables.py --check    lists what differs, exit 1; tests/test_docs.py runs this

A table keeps its place and its header; its rows are made anew. In running text figures stay as they
were written.
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
RATES = "| codec | BD-rate against JPEG | against WebP | against AVIF | against VTM |"
LOOKS = "| against AVIF | SSIMULACRA2 | Butteraugli | MS-SSIM | PSNR |"
TIMES = "| codec | encode, s/MP | decode, s/MP |"
CURVE = "| quality | bpp | PSNR, dB | MS-SSIM |"
BESIDE = "| quality | classic | psnr | JPEG 4:2:0, optimized |"
LIMITS = (
    "| quality | z, bpp | y, bpp | header, boxes, checksums, bpp "
    "| symbols that are not 0, per pixel | PSNR, dB |"
)
TRAINING = "| step | quality 10 | quality 50 | quality 90 |"
EFFORT = "| effort | psnr, by PSNR | visual, by SSIMULACRA2 | encoding time, against effort 3 |"

Rows = list[str]


def tables() -> Iterator[tuple[str, str, list[Rows]]]:
    """Yield each document, a header that occurs in it, and the rows of its tables in order."""
    kodak, valid = (_read(name) for name in ("kodak", "valid"))
    others = [name for name in NAMES if name != "jpeg"]
    yield "README.md", RATES, [_rates(kodak, FRONT)]
    yield "docs/benchmarks.md", RATES, [_rates(kodak, others)]
    yield "README.md", LOOKS, [_looks("kodak", SEEN)]
    yield "docs/benchmarks.md", LOOKS, [_looks(one, SEEN) for one in ("kodak", "valid")]
    yield "docs/benchmarks.md", TIMES, [_times(kodak, NAMES)]
    models = ("cae", "cae-visual", "classic")
    curves = [_curve(one, codec) for codec in models for one in (kodak, valid)]
    yield "MODEL_CARD.md", CURVE, curves
    yield "bench/results/classic.md", BESIDE, [_beside(one) for one in (kodak, valid)]
    limits = json.loads((RESULTS / "limits_valid.json").read_text())
    yield "bench/results/ablations.md", LIMITS, [_limits(limits["by_quality"])]
    logs = [RESULTS / "training" / f"{name}.valid.csv" for name in ("psnr", "visual")]
    yield "MODEL_CARD.md", TRAINING, [_training(log) for log in logs]
    yield "docs/benchmarks.md", EFFORT, [_efforts()]


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
    content: dict[str, Any] = json.loads((RESULTS / name / "results.json").read_text())
    return content


def _rates(results: dict[str, Any], codecs: Iterable[str]) -> Rows:
    anchors = [*(results["bd_rates"][one] for one in ("jpeg", "webp", "avif"))]
    anchors.append(results["published"]["vtm"]["bd_rates"])
    return [
        f"| {NAMES[codec]} | " + " | ".join(_percent(rates[codec]) for rates in anchors) + " |"
        for codec in codecs
    ]


def _looks(name: str, codecs: Iterable[str]) -> Rows:
    """Return BD-rates against AVIF by each metric."""
    results = _read(name)
    others = results["bd_rates_by_metric"]
    butteraugli = json.loads((RESULTS / name / "butteraugli.json").read_text())
    seen, ms_ssim = (
        {codec: one["percent"] for codec, one in others[metric]["avif"].items()}
        for metric in ("ssimulacra2", "ms_ssim")
    )
    rates = [seen, butteraugli["bd_rates"]["avif"], ms_ssim, results["bd_rates"]["avif"]]
    return [
        f"| {NAMES[codec]} | " + " | ".join(_percent(rate[codec]) for rate in rates) + " |"
        for codec in codecs
    ]


def _percent(value: float | None) -> str:
    return "no overlap" if value is None else f"{value:+.1f} %".replace("-", "−")


def _times(results: dict[str, Any], codecs: dict[str, str]) -> Rows:
    rows = []
    for codec, name in codecs.items():
        points = [point for point in results["points"] if point["codec"] == codec]
        medians = (
            statistics.median(point[f"{way}_seconds_per_megapixel"] for point in points)
            for way in ("encode", "decode")
        )
        rows.append(f"| {name} | " + " | ".join(f"{median:.3f}" for median in medians) + " |")
    return rows


def _efforts() -> Rows:
    """Return BD-rates against effort 1, and medians of time, by effort."""
    psnr, visual = (_read(f"effort/{tune}") for tune in ("psnr", "visual"))
    by_psnr = psnr["bd_rates"]["cae-e1"]
    by_look = visual["bd_rates_by_metric"]["ssimulacra2"]["cae-e1"]
    usual = _encode_seconds(psnr, "cae")
    return [
        f"| {effort} | {_percent(by_psnr[codec])} | {_percent(by_look[codec]['percent'])} "
        f"| {_encode_seconds(psnr, codec) / usual:.2g} |"
        for effort in EFFORTS
        for codec in ["cae" if effort == DEFAULT_EFFORT else f"cae-e{effort}"]
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
