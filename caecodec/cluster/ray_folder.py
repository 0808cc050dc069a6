"""Compress a folder or bucket of images on a Ray cluster."""

from __future__ import annotations

import dataclasses
import io
import math
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import torch

from caecodec.cluster.manifest import Manifest, Row, Status, table_of
from caecodec.codec.codec import Codec
from caecodec.codec.search import effort_level
from caecodec.config import DEFAULT_EFFORT, DEFAULT_QUALITY
from caecodec.errors import ConfigError
from caecodec.extras import import_extra
from caecodec.files.places import absolute, check_place
from caecodec.files.urls import join_url, names_below, read_url, url_is_folder, write_url
from caecodec.format.constants import SIZE_LIMIT, quality_to_units
from caecodec.image.image_files import image_suffixes, open_image
from caecodec.weights import choose_model
from caecodec.weights.storage import Weights, find_weights

BLOCK_SIZE = 16
"""Maximum number of images that a worker takes at a time."""
PART_SECONDS = 10.0
"""Minimum number of seconds between parts of the manifest."""


@dataclasses.dataclass(frozen=True)
class Summary:
    """What a run did.

    Attributes:
        manifest: path or URL of the manifest.
        done, failed, skipped: numbers of images.
    """

    manifest: str
    done: int
    failed: int
    skipped: int


@dataclasses.dataclass(frozen=True)
class _Settings:
    weights: Weights
    quality: float | None  # None for lossless
    effort: int
    size_limit: int
    threads: int

    @property
    def facts(self) -> Row:
        """The columns of the manifest that are equal for all images."""
        effort = None if self.quality is None else self.effort
        digest = self.weights.digest.hex()
        return {"quality": self.quality, "effort": effort, "digest": digest}


def compress_folder(  # noqa: PLR0913 - options are parameters
    source: str | Path,
    destination: str | Path,
    *,
    quality: float | None = None,
    lossless: bool = False,
    effort: int = DEFAULT_EFFORT,
    tune: str | None = None,
    model: str | Path | None = None,
    workers: int | None = None,
    threads: int = 1,
    size_limit: int = SIZE_LIMIT,
) -> Summary:
    """Compress all images below a folder; resume where an earlier run ended.

    Outputs preserve the folder structure. An image is skipped if, by the manifest, it was done with
    this quality, effort and model, and its output exists; a failure is a row of the manifest.

    Args:
        source: folder, or a URL such as `s3://bucket/photos`, that every machine can read.
        destination: the same for the `.cae` files and `manifest.parquet`; created if missing.
        quality: 0..100; 50 by default.
        lossless: instead of a quality, keep every pixel; the manifest then has neither a quality
            nor an effort.
        effort: 1, 3, 5, 7 or 9.
        tune: "visual" or "psnr", as `caecodec.compress`.
        model: name of a shipped model or path of a .safetensors file on this machine, instead.
        workers: number of processes; by default, as many as fit on the cluster.
        threads: threads of each worker.
        size_limit: pixels of the largest image accepted.

    Raises:
        ConfigError: no such folder, a setting out of range, a quality of what shall be lossless,
            or the extra `ray` is missing.
        ModelError: no such model.
        UrlError: the folder or the manifest cannot be read or written.
    """
    if lossless and quality is not None:
        raise ConfigError("quality and lossless exclude each other: give one of them")
    if not lossless:
        quality = DEFAULT_QUALITY if quality is None else quality
        quality_to_units(quality)
    effort_level(effort)
    weights = find_weights(choose_model(tune, model))
    settings = _Settings(weights, quality, effort, size_limit, threads)
    source, destination = _everywhere(source), _everywhere(destination)
    if not url_is_folder(source):
        raise ConfigError(f"{source} is not a folder")
    manifest = Manifest(destination)
    pending, known = _plan(source, manifest, settings)
    counts = Counter(row["status"] for row in known)
    if known:
        manifest.append(known)
    results = _on_ray(pending, settings, workers) if pending else iter(())
    for rows in _in_parts(results):
        manifest.append(rows)
        counts.update(row["status"] for row in rows)
    manifest.merge()
    return Summary(manifest.path, *(counts[status] for status in Status))


def _everywhere(folder: str | Path) -> str:
    """Return a path or URL that is valid in workers, whose working directory is another."""
    check_place(str(folder))
    return absolute(str(folder))


def _plan(source: str, manifest: Manifest, settings: _Settings) -> tuple[list[Row], list[Row]]:
    """Return the rows of the images to compress, and those known without any work."""
    earlier = manifest.merge()
    existing = set(names_below(manifest.folder))
    pending, known = [], []
    owners: dict[str, str] = {}
    suffixes = image_suffixes()
    for name in names_below(source):
        image = PurePosixPath(name)
        if image.suffix.lower() not in suffixes:
            continue
        target = str(image.with_suffix(".cae"))
        path = join_url(source, name)
        row = {"path": path, "output": join_url(manifest.folder, target), **settings.facts}
        before = earlier.get(path, {})
        owner = owners.setdefault(target, path)
        if owner != path:
            known.append(row | {"status": Status.failed, "error": f"the output is that of {owner}"})
        elif target in existing and _is_done(before, settings):
            known.append(before | row | {"status": Status.skipped})
        else:
            pending.append(row)
    return pending, known


def _is_done(row: Row, settings: _Settings) -> bool:
    """Return whether an earlier run did an image as it would be done now."""
    return row | settings.facts == row and row["status"] != Status.failed


def _on_ray(pending: list[Row], settings: _Settings, workers: int | None) -> Iterator[list[Row]]:
    """Yield the rows of images as they are done."""
    ray = import_extra("ray", "ray")
    data = import_extra("ray.data", "ray")
    if not ray.is_initialized():
        ray.init()
    room = workers or max(1, int(ray.cluster_resources().get("CPU", 1) // settings.threads))
    num_blocks = max(min(room, len(pending)), math.ceil(len(pending) / BLOCK_SIZE))
    pool = data.ActorPoolStrategy(
        size=min(room, num_blocks), max_tasks_in_flight_per_actor=1
    )  # so what a restarted worker gets again is what it died on
    batches = data.from_items(pending, override_num_blocks=num_blocks).map_batches(
        _Worker,
        fn_constructor_args=(settings,),
        compute=pool,
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=settings.threads,
    )
    for batch in batches.iter_batches(batch_size=None, batch_format="pyarrow"):
        yield batch.to_pylist()


def _in_parts(results: Iterable[list[Row]]) -> Iterator[list[Row]]:
    """Gather rows into parts, one every PART_SECONDS, and a last one at the end."""
    gathered: list[Row] = []
    started = time.monotonic()
    for rows in results:
        gathered += rows
        if time.monotonic() - started > PART_SECONDS:
            yield gathered
            gathered, started = [], time.monotonic()
    if gathered:
        yield gathered


class _Worker:
    """A process that keeps one codec loaded."""

    def __init__(self, settings: _Settings) -> None:
        torch.set_num_threads(settings.threads)
        self._codec = Codec(settings.weights, size_limit=settings.size_limit)
        self._settings = settings
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Ray calls what it deprecates
            context = import_extra("ray", "ray").get_runtime_context()
            self._has_died = context.was_current_actor_reconstructed

    def __call__(self, block: Any) -> Any:
        """Compress the images of a table, and return it with their outcomes.

        Ray gives a restarted worker the same table again, without end.
        """
        if self._has_died:
            self._has_died = False
            died = {
                "status": Status.failed,
                "error": "the worker died on this image or a nearby one",
            }
            return table_of(row | died for row in block.to_pylist())
        return table_of(self._compress(row) for row in block.to_pylist())

    def _compress(self, row: Row) -> Row:
        try:
            source = io.BytesIO(read_url(row["path"]))
            image = open_image(source, row["path"], size_limit=self._settings.size_limit)
            started = time.perf_counter()
            quality, effort = self._settings.quality, self._settings.effort
            data = self._codec.compress(
                image, quality=quality, lossless=quality is None, effort=effort
            )
            seconds = time.perf_counter() - started
            write_url(row["output"], lambda file: file.write(data))
        except Exception as error:  # noqa: BLE001 - whatever it is, the other images go on
            return row | {"status": Status.failed, "error": str(error) or type(error).__name__}
        return row | {
            "status": Status.done,
            "width": image.width,
            "height": image.height,
            "bytes": len(data),
            "bpp": 8 * len(data) / (image.width * image.height),
            "seconds": seconds,
        }
