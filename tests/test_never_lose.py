"""Whatever stops a command, the old file or the new one is whole, and no picture is lost."""

import importlib
import io
import itertools
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from make_golden import TOY, synthetic_image
from PIL import Image
from typer.testing import CliRunner

from caecodec.cli.app import app
from caecodec.codec.codec import Codec
from caecodec.files import places, replacing

OLD = b"the old file"
WRITING = {
    *(places.write_file, replacing.replace_file, replacing._partial_of.__wrapped__),  # type: ignore[attr-defined]
    *(replacing._has_locked, replacing._sync_folder, places.remove_file),
}
SMALL_DISK = 'mount -t tmpfs -o size=64k none "$0" && exec "$@"'
forks_torch = pytest.mark.skipif(
    sys.platform != "linux", reason="forks a process that has used torch"
)


def run(*args: object) -> tuple[int, str]:
    """Return exit code and stderr of a command with the toy model."""
    arguments = [*map(str, args), "--model", str(TOY)]
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, SystemExit | None), result.exception
    return result.exit_code, result.stderr


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture
def cae_path(photo_path: Path, toy: Codec) -> Path:
    path = photo_path.with_name("photo.cae")
    path.write_bytes(toy.compress(Image.open(photo_path)))
    return path


# Killed: in a fresh process of one thread, whose forks can use torch.


def get_ready(folder: Path) -> None:
    """Load what commands need, so that a fork of this process need not."""
    torch.set_num_threads(1)
    photo = folder / "photo.ppm"
    Image.fromarray(synthetic_image(20, 20, 0)).save(photo)
    run("compress", photo)
    run("decompress", photo.with_suffix(".cae"), photo, "-f")


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessPoolExecutor]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, get_ready, (tmp_path_factory.mktemp("fresh"),)) as pool:
        yield pool


def status_of_child(action: Callable[[], int]) -> int:
    """Return the exit code of a forked child, or minus the signal that killed it."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = action()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run_up_to_line(number: int, *args: object) -> int:
    """Kill a command before the numbered line that it runs of the functions in WRITING."""
    lines, traced = itertools.count(), {function.__code__ for function in WRITING}

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code not in traced:
            return None
        if event == "line" and next(lines) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace

    def action() -> int:
        sys.settrace(trace)
        return run(*args)[0]

    return status_of_child(action)


def run_up_to_half_a_write(*args: object) -> int:
    """Kill a command when half of its output is in the temporary file."""

    class HalfFile(io.FileIO):
        def write(self, data: Any) -> int:
            super().write(data[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
            return 0

    def action() -> int:
        io.FileIO = HalfFile
        return run(*args)[0]

    return status_of_child(action)


def run_with_file_limit(num_bytes: int, *args: object) -> tuple[int, str]:
    """Run a command that may not write larger files."""
    resource = importlib.import_module("resource")  # absent on Windows
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, limits[1]))
    try:
        return run(*args)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.slow
@forks_torch
def test_compress_killed_before_any_line_leaves_the_old_file_or_the_new_one(
    fresh: ProcessPoolExecutor, photo_path: Path, toy: Codec
) -> None:
    photo, out = photo_path.read_bytes(), photo_path.with_name("out.cae")
    new = toy.compress(Image.open(photo_path))
    outcomes = set()
    for number in itertools.count():
        photo_path.write_bytes(photo)
        out.write_bytes(OLD)
        job = fresh.submit(run_up_to_line, number, "compress", photo_path, out, "-f", "--rm")
        status = job.result()
        outcomes.add((out.read_bytes(), photo_path.exists()))
        if status == 0:
            break
        assert status == -signal.SIGKILL
    assert outcomes == {(OLD, True), (new, True), (new, False)}


@pytest.mark.slow
@forks_torch
def test_decompress_killed_before_any_line_leaves_the_old_file_or_the_new_one(
    fresh: ProcessPoolExecutor, cae_path: Path, toy: Codec
) -> None:
    data, out = cae_path.read_bytes(), cae_path.with_name("out.ppm")
    new = b"P6\n90 70\n255\n" + toy.decompress(data).tobytes()
    outcomes = set()
    for number in itertools.count():
        out.write_bytes(OLD)
        status = fresh.submit(run_up_to_line, number, "decompress", cae_path, out, "-f").result()
        outcomes.add(out.read_bytes())
        assert cae_path.read_bytes() == data
        if status == 0:
            break
        assert status == -signal.SIGKILL
    assert outcomes == {OLD, new}


@pytest.mark.slow
@forks_torch
def test_what_a_killed_command_leaves_is_hidden_until_the_next_one_removes_it(
    fresh: ProcessPoolExecutor, photo_path: Path
) -> None:
    out = photo_path.with_name("out.cae")
    for before in (None, OLD):
        if before:
            out.write_bytes(before)
        job = fresh.submit(run_up_to_half_a_write, "compress", photo_path, out, "-f", "--rm")
        assert job.result() == -signal.SIGKILL
        assert out.exists() == (before is not None)
        (left,) = set(contents(photo_path.parent)) - {"photo.png", "out.cae"}
        assert left.startswith(".out.cae.")
        assert left.endswith(".partial")
    assert run("compress", photo_path, out, "-f", "--rm")[0] == 0
    assert set(contents(photo_path.parent)) == {"out.cae"}
    assert run("decompress", out, photo_path)[0] == 0


NEEDS_LOCKS = pytest.mark.skipif(sys.platform == "win32", reason="locks are POSIX")
WRITE_AND_WAIT = """
import sys
from pathlib import Path
from caecodec.files.replacing import replace_file

def write(file):
    file.write(b"half")
    print("half", flush=True)
    sys.stdin.read()

replace_file(Path(sys.argv[1]), write)
"""


def start_writing(target: Path) -> subprocess.Popen[str]:
    """Return a process that has half of a file written, and ends it once its stdin is closed."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITE_AND_WAIT, target],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "half\n"
    return process


@NEEDS_LOCKS
def test_only_files_of_dead_writers_of_the_same_name_are_removed(tmp_path: Path) -> None:
    long = "x" * 50
    names = ["a.cae", "a.cae.cae", f"{long}1.cae", f"{long}2.cae"]
    dead = {name: start_writing(tmp_path / name) for name in names}
    live = start_writing(tmp_path / "a.cae")
    for process in dead.values():
        process.kill()
        process.communicate()
    before = set(contents(tmp_path))
    assert len(before) == 5
    for name in ("a.cae", f"{long}1.cae"):
        replacing.replace_file(tmp_path / name, lambda file: file.write(b"new"))
    gone = before - set(contents(tmp_path))
    assert len(gone) == 2
    assert {name[: len(".a.cae.")] for name in gone} == {".a.cae.", ".xxxxxx"}
    live.communicate("")
    assert live.returncode == 0
    assert (tmp_path / "a.cae").read_bytes() == b"half"
    assert len([name for name in contents(tmp_path) if name.endswith(".partial")]) == 2


@NEEDS_LOCKS
def test_a_temporary_file_that_is_removed_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_locked, handles = replacing._has_locked, []

    def remove_first(handle: int, *, waits: bool) -> bool:
        if not handles:
            next(tmp_path.iterdir()).unlink()
        handles.append(handle)
        return has_locked(handle, waits=waits)

    monkeypatch.setattr(replacing, "_has_locked", remove_first)
    replacing.replace_file(tmp_path / "a.cae", lambda file: file.write(b"new"))
    assert len(handles) == 2
    assert contents(tmp_path) == {"a.cae": b"new"}


@pytest.mark.slow
def test_a_batch_killed_at_work_leaves_whole_files_alone(tmp_path: Path, toy: Codec) -> None:
    folder, count = tmp_path / "out", 60
    folder.mkdir()
    image = synthetic_image(32, 32, 0)
    new, names = toy.compress(image), [f"{number:03}" for number in range(count)]
    for name in names:
        Image.fromarray(image).save(tmp_path / f"{name}.ppm")
        (folder / f"{name}.cae").write_bytes(OLD)
    command = [sys.executable, "-m", "caecodec", "compress", *sorted(tmp_path.glob("*.ppm"))]
    options = ["-o", folder, "-f", "--rm", "--model", TOY]
    with subprocess.Popen([*command, *options], stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and (tmp_path / "009.ppm").exists():
            time.sleep(0.001)
        process.kill()
    assert not (tmp_path / "009.ppm").exists()
    for name in names:
        expected = {OLD, new} if (tmp_path / f"{name}.ppm").exists() else {new}
        assert (folder / f"{name}.cae").read_bytes() in expected
    left = contents(folder).keys() - {f"{name}.cae" for name in names}
    assert len(left) <= 1
    assert all(name.endswith(".partial") for name in left)


# No room.


@pytest.mark.slow
@forks_torch
def test_a_file_that_grows_too_large_leaves_the_old_one_and_says_so_in_one_line(
    fresh: ProcessPoolExecutor, photo_path: Path, cae_path: Path
) -> None:
    out, image = photo_path.with_name("out.cae"), photo_path.with_name("out.ppm")
    out.write_bytes(OLD)
    image.write_bytes(OLD)
    before = contents(photo_path.parent)
    for command in (
        ["compress", photo_path, out, "-f", "--rm"],
        ["decompress", cae_path, image, "-f"],
        ["decompress", cae_path, photo_path.with_name("new.ppm")],
    ):
        code, stderr = fresh.submit(run_with_file_limit, 100, *command).result()
        assert code == 1
        assert "cannot write" in stderr
        assert "too large" in stderr
        assert len(stderr.splitlines()) == 1
        assert contents(photo_path.parent) == before


def report_from_small_disk() -> None:
    """Print what commands say and whether they change a disk of 64 KiB: full, then read-only.

    Runs in a mount namespace; arguments: the disk and an image file.
    """
    disk, photo = map(Path, sys.argv[1:])
    reports = []

    def attempt(*args: object) -> None:
        before = contents(disk)
        code, stderr = run(*args)
        reports.append([code, stderr, contents(disk) == before])

    for name in ("out.cae", "out.ppm"):
        (disk / name).write_bytes(OLD)
    shutil.copy(photo, disk)
    cae = photo.with_name("kept.cae")
    run("compress", photo, cae)
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    attempt("compress", photo, disk / "out.cae", "-f", "--rm")
    attempt("compress", photo, disk / "new.cae")
    os.truncate(filler, filler.stat().st_size - 8192)  # room for a part of the next file
    attempt("decompress", cae, disk / "out.ppm", "-f")
    attempt("decompress", cae, disk / "new.ppm")
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    attempt("compress", photo, disk / "out.cae", "-f", "--rm")
    attempt("decompress", cae, disk / "new.ppm")
    attempt("compress", disk / photo.name, photo.with_name("moved.cae"), "--rm")
    print(json.dumps(reports))


@pytest.fixture(scope="module")
def small_disk_reports(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[int, str, bool]]:
    folder, disk = tmp_path_factory.mktemp("photos"), tmp_path_factory.mktemp("disk")
    Image.fromarray(synthetic_image(90, 70, 7)).save(folder / "photo.png")
    if shutil.which("unshare") is None:
        pytest.skip("no unshare here: a disk cannot be mounted for one process")
    namespace = ["unshare", "-rm", "sh", "-c", SMALL_DISK, disk]
    trial = subprocess.run(
        [*namespace, sys.executable, "-V"], capture_output=True, text=True, check=False
    )
    if trial.returncode:
        pytest.skip(f"a disk cannot be mounted here: {trial.stderr.strip()}")
    code = f"import {__name__}; {__name__}.report_from_small_disk()"
    done = subprocess.run(
        [*namespace, sys.executable, "-c", code, disk, folder / "photo.png"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert contents(folder).keys() == {"photo.png", "kept.cae", "moved.cae"}
    return [tuple(report) for report in json.loads(done.stdout)]


@pytest.mark.slow
def test_a_full_disk_keeps_its_files_and_is_named_in_one_line(
    small_disk_reports: list[tuple[int, str, bool]],
) -> None:
    for code, stderr, is_unchanged in small_disk_reports[:4]:
        assert (code, is_unchanged) == (1, True)
        assert stderr.endswith("No space left on device\n")
        assert len(stderr.splitlines()) == 1


@pytest.mark.slow
def test_a_read_only_disk_keeps_its_files_and_is_named_in_one_line(
    small_disk_reports: list[tuple[int, str, bool]],
) -> None:
    for code, stderr, is_unchanged in small_disk_reports[4:]:
        assert (code, is_unchanged) == (1, True)
        assert stderr.endswith("Read-only file system\n")
        assert len(stderr.splitlines()) == 1
    assert "cannot remove" in small_disk_reports[-1][1]


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="permissions stop all users but root"
)
def test_a_folder_without_permission_keeps_its_files_and_is_named_in_one_line(
    photo_path: Path,
) -> None:
    folder = photo_path.parent / "locked"
    folder.mkdir()
    (folder / "photo.cae").write_bytes(OLD)
    folder.chmod(0o555)
    for out in ("photo.cae", "new.cae"):
        code, stderr = run("compress", photo_path, folder / out, "-f", "--rm")
        assert code == 1
        assert stderr.endswith("Permission denied\n")
        assert len(stderr.splitlines()) == 1
    assert contents(folder) == {"photo.cae": OLD}
    assert photo_path.exists()


# The same file under two names.


@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
@pytest.mark.parametrize("options", [[], ["-f"], ["-f", "--rm"], ["-f", "--verify"]], ids=" ".join)
def test_compress_refuses_an_output_that_leads_to_the_input(
    photo_path: Path, link: Callable[[Path, Path], None], options: list[str]
) -> None:
    link(photo_path.with_name("link.cae"), photo_path)
    before = contents(photo_path.parent)
    code, stderr = run("compress", photo_path, photo_path.with_name("link.cae"), *options)
    assert code == 1
    assert "is the input itself" in stderr
    assert contents(photo_path.parent) == before


@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
@pytest.mark.parametrize("options", [[], ["-f"], ["-f", "--allow-partial"]], ids=" ".join)
def test_decompress_refuses_an_output_that_leads_to_the_input(
    cae_path: Path, link: Callable[[Path, Path], None], options: list[str]
) -> None:
    link(cae_path.with_name("link.png"), cae_path)
    before = contents(cae_path.parent)
    code, stderr = run("decompress", cae_path, cae_path.with_name("link.png"), *options)
    assert code == 1
    assert "is the input itself" in stderr
    assert contents(cae_path.parent) == before


def test_an_output_in_a_linked_folder_is_the_input_all_the_same(photo_path: Path) -> None:
    source = photo_path.rename(photo_path.with_name("image.cae"))  # content decides, not the name
    folder = source.with_name("folder")
    folder.symlink_to(source.parent)
    before = contents(source.parent)
    code, stderr = run("compress", source, "-o", folder, "-f", "--rm")
    assert code == 1
    assert "is the input itself" in stderr
    assert contents(source.parent) == before


def test_inputs_whose_outputs_are_one_file_through_a_link_are_refused(photo_path: Path) -> None:
    other = photo_path.with_suffix(".bmp")
    Image.open(photo_path).save(other)
    folder = photo_path.with_name("folder")
    folder.symlink_to(photo_path.parent)
    before = contents(photo_path.parent)
    code, stderr = run("compress", photo_path, folder / other.name, "-f", "--rm")
    assert code == 2
    assert "would both become" in stderr
    assert contents(photo_path.parent) == before


# What is written.


def test_through_a_link_the_file_that_it_names_is_replaced(photo_path: Path) -> None:
    folder = photo_path.with_name("folder")
    folder.mkdir()
    (folder / "kept.cae").write_bytes(OLD)
    link = photo_path.with_name("photo.cae")
    link.symlink_to(folder / "kept.cae")
    assert run("compress", photo_path, "-f")[0] == 0
    assert link.is_symlink()
    assert contents(folder).keys() == {"kept.cae"}
    assert (folder / "kept.cae").read_bytes() != OLD


def test_a_link_to_itself_is_an_output_like_any_other(photo_path: Path) -> None:
    link = photo_path.with_name("photo.cae")
    link.symlink_to(link)
    assert run("compress", photo_path)[0] == 0
    assert link.is_file()


def test_the_longest_name_that_a_folder_holds_can_be_written(photo_path: Path) -> None:
    name = "é" * 125 + ".cae"  # 254 bytes
    assert run("compress", photo_path, photo_path.with_name(name))[0] == 0
    assert contents(photo_path.parent).keys() == {"photo.png", name}


def damage_what_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = os.fsync

    def damage(handle: int) -> None:
        os.pwrite(handle, b"?", 40)
        fsync(handle)

    monkeypatch.setattr("os.fsync", damage)


def lose_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Codec, "decompress", fail)


def refuse_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.replace", fail)


@pytest.mark.parametrize("trouble", [damage_what_is_written, lose_memory, refuse_the_name])
def test_rm_keeps_source_and_old_file_until_the_new_one_is_verified_and_named(
    photo_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: Callable[[pytest.MonkeyPatch], None]
) -> None:
    photo_path.with_name("photo.cae").write_bytes(OLD)
    before = contents(photo_path.parent)
    with monkeypatch.context() as patch:
        trouble(patch)
        code, stderr = run("compress", photo_path, "-f", "--rm")
    assert code == 1
    assert len(stderr.splitlines()) == 1
    assert contents(photo_path.parent) == before


@pytest.mark.skipif(sys.platform == "win32", reason="Windows opens no folder")
def test_a_new_name_is_on_disk_before_the_source_is_removed(
    photo_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced, fsync = [], os.fsync

    def note(handle: int) -> None:
        synced.append((os.fstat(handle).st_ino, photo_path.exists()))
        fsync(handle)

    monkeypatch.setattr("os.fsync", note)
    assert run("compress", photo_path, "--rm")[0] == 0
    out = photo_path.with_name("photo.cae")
    assert synced == [(out.stat().st_ino, True), (photo_path.parent.stat().st_ino, True)]


def test_a_damaged_source_keeps_itself_and_the_old_output(photo_path: Path) -> None:
    photo_path.with_name("photo.cae").write_bytes(OLD)
    photo_path.write_bytes(photo_path.read_bytes()[:200])
    before = contents(photo_path.parent)
    assert run("compress", photo_path, "-f", "--rm")[0] == 1
    assert contents(photo_path.parent) == before


def test_rm_removes_a_source_only_after_its_times_are_kept(
    photo_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.utime(photo_path, (1e9, 1e9))
    out = photo_path.with_name("photo.cae")

    def fail(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    with monkeypatch.context() as patch:
        patch.setattr("shutil.copystat", fail)
        assert run("compress", photo_path, "--rm", "--preserve")[0] == 1
    assert photo_path.exists()
    assert run("compress", photo_path, "-f", "--rm", "--preserve")[0] == 0
    assert not photo_path.exists()
    assert out.stat().st_mtime == 1e9
