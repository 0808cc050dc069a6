"""One codec in many threads and processes: the same bytes and pixels, and no memory kept."""

import multiprocessing
import os
import shutil
import sys
import unittest.mock
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from make_golden import TOY, synthetic_image
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from typer.testing import CliRunner

import caecodec
from caecodec.cli.app import app
from caecodec.codec.codec import Codec, shared_codec
from caecodec.config import EFFORTS

pytestmark = pytest.mark.slow

NUM_FILES, NUM_FIRST = 1000, 100
MAX_GROWTH = 2 * 2**20
"""Bytes; an image of the batches has 3 KiB."""
STATUS = Path("/proc/self/status")
SECONDS_UNTIL_HANGING = 60

needs_fork = pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="processes cannot fork here"
)
needs_proc = pytest.mark.skipif(
    not STATUS.exists(), reason="/proc says what a process holds, and is not here"
)


class Task(NamedTuple):
    image: np.ndarray
    quality: float
    effort: int


def tasks(count: int) -> list[Task]:
    """Return images of all modes and many sizes, at many qualities and efforts."""
    found = []
    for seed in range(count):
        image = synthetic_image(30 + 7 * seed, 90 - 3 * seed, seed)
        alpha = image[..., :1]
        kinds = image, image[..., 1], np.concatenate((image, alpha), axis=2)
        found.append(Task(kinds[seed % 3], seed * 100 / count, EFFORTS[seed % 4]))
    return found


def round_trip(codec: Codec, task: Task) -> tuple[bytes, bytes]:
    data = codec.compress(task.image, quality=task.quality, effort=task.effort)
    return data, codec.decompress(data).tobytes()


# Threads.


def test_one_codec_in_8_threads_gives_the_bytes_and_pixels_of_one_thread(toy: Codec) -> None:
    todo, filters = tasks(12), list(warnings.filters)
    expected = [round_trip(toy, task) for task in todo]
    again = Codec(TOY)  # with nothing kept from earlier calls
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda task: round_trip(again, task), todo)) == expected
        files = [data for data, _ in expected] * 2
        pixels = [toy.decompress(data, crop=(3, 2, 20, 25)).tobytes() for data in files]
        crops = [pool.submit(again.decompress, data, crop=(3, 2, 20, 25)) for data in files]
        mixed = [pool.submit(round_trip, again, task) for task in todo]
        assert [crop.result().tobytes() for crop in crops] == pixels
        assert [trip.result() for trip in mixed] == expected
    assert warnings.filters == filters


def test_main_in_8_threads_gives_the_bytes_and_pixels_of_one_thread() -> None:
    codec = shared_codec("psnr")
    task = Task(synthetic_image(130, 70, 1), 55, 3)
    expected = round_trip(codec, task)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: round_trip(codec, task), range(8))) == {expected}


def test_threads_that_load_a_model_together_all_get_it(toy: Codec, tmp_path: Path) -> None:
    image, model = tasks(1)[0].image, shutil.copy(TOY, tmp_path / "new.safetensors")
    with ThreadPoolExecutor(8) as pool:
        made = pool.map(lambda _: caecodec.compress(image, model=model), range(8))
        assert set(made) == {toy.compress(image)}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
def test_jobs_at_a_time_give_the_files_and_permissions_of_one(
    toy: Codec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    todo, folder = tasks(12), tmp_path / "out"
    cores = 8 * torch.get_num_threads()  # each job has as many threads as this process
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    for number, task in enumerate(todo):
        Image.fromarray(task.image).save(tmp_path / f"{number:02}.png")
    umask = os.umask(0o027)
    try:
        arguments = ["compress", *tmp_path.glob("*.png"), "-o", folder, "-j", 8, "--model", TOY]
        assert CliRunner().invoke(app, list(map(str, arguments))).exit_code == 0
    finally:
        assert os.umask(umask) == 0o027
    files = sorted(folder.iterdir())
    expected = [toy.compress(task.image) for task in todo]
    assert [path.read_bytes() for path in files] == expected
    assert {path.stat().st_mode & 0o777 for path in files} == {0o640}


# Processes.


@pytest.fixture(scope="module")
def fresh() -> Iterator[ProcessPoolExecutor]:
    """A process that has done nothing yet: what it forks and holds is its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        yield pool


def compress_by_path(image: np.ndarray) -> bytes:
    return caecodec.compress(image, model=TOY)


def test_spawned_workers_give_the_bytes_of_this_process(toy: Codec) -> None:
    images = [task.image for task in tasks(6)]
    expected = [toy.compress(image) for image in images]
    context = multiprocessing.get_context("spawn")
    threads = torch.set_num_threads, (torch.get_num_threads(),)
    with ProcessPoolExecutor(2, context, *threads) as pool:
        assert list(pool.map(compress_by_path, images)) == expected
        assert list(pool.map(toy.compress, images)) == expected  # the codec travels


class Compressed(Dataset[bytes]):
    """Files of a data set's images, made where they are asked for."""

    def __init__(self, codec: Codec, images: list[np.ndarray]) -> None:
        self.codec, self.images = codec, images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> bytes:
        return self.codec.compress(self.images[index])


def in_pool(fork: BaseContext, _: Codec, images: list[np.ndarray]) -> list[bytes]:
    compress_by_path(images[0])  # the forks inherit the model
    with fork.Pool(2) as pool:
        return pool.map_async(compress_by_path, images).get(SECONDS_UNTIL_HANGING)


def in_executor(fork: BaseContext, codec: Codec, images: list[np.ndarray]) -> list[bytes]:
    with ProcessPoolExecutor(2, fork) as pool:
        try:
            return list(pool.map(codec.compress, images, timeout=SECONDS_UNTIL_HANGING))
        finally:
            for child in multiprocessing.active_children():
                child.kill()


def in_data_loader(fork: BaseContext, codec: Codec, images: list[np.ndarray]) -> list[bytes]:
    loader = DataLoader(
        Compressed(codec, images),
        batch_size=None,
        num_workers=2,
        multiprocessing_context=fork,
        timeout=SECONDS_UNTIL_HANGING,
    )
    return list(loader)


def in_refining_pool(fork: BaseContext, codec: Codec, images: list[np.ndarray]) -> list[bytes]:
    """Compress with gradients, whose engine has threads of its own."""
    codec.compress(images[0], effort=5)
    with fork.Pool(2) as pool:
        jobs = [pool.apply_async(codec.compress, (image,), {"effort": 5}) for image in images]
        return [job.get(SECONDS_UNTIL_HANGING) for job in jobs]


def fork_after_use(
    way: Callable[[BaseContext, Codec, list[np.ndarray]], list[bytes]], effort: int
) -> bool:
    """Return whether forks give this process's bytes once it has used several threads."""
    codec, images = Codec(TOY), [task.image for task in tasks(6)]
    torch.set_num_threads(1)  # as in the forks
    expected = [codec.compress(image, effort=effort) for image in images]
    torch.set_num_threads(4)
    codec.compress(synthetic_image(256, 256, 0))
    return way(multiprocessing.get_context("fork"), codec, images) == expected


@needs_fork
@pytest.mark.parametrize(
    ("way", "effort"), [(in_pool, 3), (in_executor, 3), (in_data_loader, 3), (in_refining_pool, 5)]
)
def test_forks_of_a_process_that_has_compressed_give_its_bytes(
    fresh: ProcessPoolExecutor,
    way: Callable[[BaseContext, Codec, list[np.ndarray]], list[bytes]],
    effort: int,
) -> None:
    assert fresh.submit(fork_after_use, way, effort).result()


# Memory.


def kept(name: str) -> int:
    """Return VmRSS, or VmHWM (its peak), of this process in bytes."""
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


def growth_of_codec() -> int:
    """Return how many bytes a process holds more after all files than after the first ones."""
    torch.set_num_threads(1)
    codec, image, held = Codec(TOY), synthetic_image(32, 32, 0), []
    for number in range(NUM_FILES):
        data = codec.compress(image, quality=number % 101)
        if number % 5 == 0:
            codec.decompress(data)
        if number + 1 in {NUM_FIRST, NUM_FILES}:
            held.append(kept("VmRSS"))
    return held[1] - held[0]


def growth_of_command(folder: Path) -> int:
    """Return how many bytes a batch of all files needs more, at its peak, than one of the first."""
    torch.set_num_threads(1)
    image = Image.fromarray(synthetic_image(32, 32, 0))
    paths = [folder / f"{number}.ppm" for number in range(NUM_FILES)]
    for path in paths:
        image.save(path)
    peaks = []
    for part in (paths[:NUM_FIRST], paths):
        arguments = ["compress", *part, "-o", folder / "out", "-f", "--model", TOY]
        with unittest.mock.patch("os.fsync", os.fstat):  # the disk's time is not ours
            assert CliRunner().invoke(app, list(map(str, arguments))).exit_code == 0
        peaks.append(kept("VmHWM"))
    assert len(list((folder / "out").iterdir())) == NUM_FILES
    return peaks[1] - peaks[0]


@needs_proc
def test_a_thousand_files_through_one_codec_keep_no_memory(fresh: ProcessPoolExecutor) -> None:
    assert fresh.submit(growth_of_codec).result() < MAX_GROWTH


@needs_proc
def test_a_thousand_files_in_one_command_keep_no_memory(
    fresh: ProcessPoolExecutor, tmp_path: Path
) -> None:
    assert fresh.submit(growth_of_command, tmp_path).result() < MAX_GROWTH
