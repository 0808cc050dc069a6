"""Names: which are inputs and which outputs, streams by name, bytes that are no text."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from make_golden import TOY
from test_cli import MODEL, leftovers, run

GRAY = TOY.parent / "decode" / "gray.cae"


def call(*args: object, **options: object) -> subprocess.CompletedProcess[bytes]:
    """Run the program in its own process, whose descriptors a test may close."""
    command = [sys.executable, "-m", "caecodec", *map(os.fsencode, map(str, args))]
    return subprocess.run(command, check=False, timeout=60, stderr=subprocess.PIPE, **options)  # type: ignore[call-overload]


def test_a_second_name_that_is_no_output_and_does_not_exist_is_refused(tmp_path: Path) -> None:
    packed, original = tmp_path / "photo.cae", tmp_path / "photo.png"
    shutil.copy(GRAY, packed)
    original.write_bytes(b"precious")
    result = run("decompress", packed, tmp_path / "restored.jp2", "-f", *MODEL)
    assert result.exit_code == 2
    assert "no file" in result.stderr
    assert ".png" in result.stderr
    assert original.read_bytes() == b"precious"


def test_a_typo_in_the_suffix_of_an_output_keeps_the_existing_one(photo_path: Path) -> None:
    packed = photo_path.with_suffix(".cae")
    packed.write_bytes(b"precious")
    result = run("compress", photo_path, photo_path.with_name("small.cea"), "-f", *MODEL)
    assert result.exit_code == 2
    assert packed.read_bytes() == b"precious"


def test_a_missing_input_of_several_stops_before_the_first_write(photo_path: Path) -> None:
    result = run("compress", photo_path, photo_path, photo_path.with_name("none.png"), *MODEL)
    assert result.exit_code == 2
    assert not photo_path.with_suffix(".cae").exists()


@pytest.mark.skipif(os.name == "nt", reason="descriptors are POSIX")
def test_dev_stdin_and_dev_stdout_are_a_pipe(photo_path: Path) -> None:
    data = photo_path.read_bytes()
    expected = run("compress", "-", "-", *MODEL, stdin=data).stdout_bytes
    for source, target in (("/dev/stdin", "/dev/stdout"), ("/dev/fd/0", "/dev/fd/1")):
        result = run("compress", source, target, *MODEL, stdin=data)
        assert result.exit_code == 0, result.stderr
        assert result.stdout_bytes == expected
    assert run("compress", "/dev/stdin", *MODEL, stdin=data).stdout_bytes == expected
    assert run("info", "/dev/stdin", stdin=expected).exit_code == 0
    assert run("compress", photo_path, "/dev/stdin", *MODEL, stdin=data).exit_code == 2
    assert run("compress", photo_path, "/dev/stdout", "--json", *MODEL).exit_code == 2
    assert run("compress", photo_path, "/dev/stdout", "--rm", *MODEL).exit_code == 2
    assert photo_path.exists()


@pytest.mark.skipif(os.name == "nt", reason="descriptors are POSIX")
def test_other_descriptors_are_read_and_written_as_they_are(photo_path: Path) -> None:
    expected = run("compress", photo_path, "-", *MODEL).stdout_bytes
    out = photo_path.with_name("out.bin")
    with photo_path.open("rb") as source, out.open("wb") as target:
        names = [f"/dev/fd/{file.fileno()}" for file in (source, target)]
        result = run("compress", *names, *MODEL)
    assert result.exit_code == 0, result.stderr
    assert out.read_bytes() == expected


@pytest.mark.skipif(os.name == "nt", reason="named pipes are POSIX")
def test_a_named_pipe_and_a_device_are_outputs_that_stay_what_they_are(photo_path: Path) -> None:
    pipe = photo_path.with_name("pipe")
    os.mkfifo(pipe)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()), daemon=True)
    reader.start()
    assert run("compress", photo_path, pipe, *MODEL).exit_code == 0
    reader.join(timeout=10)
    assert got[0].startswith(b"\x89CAE")
    assert pipe.is_fifo()
    assert not leftovers(photo_path.parent)
    assert run("compress", photo_path, "/dev/null", *MODEL).exit_code == 0
    assert Path("/dev/null").is_char_device()
    assert "No space left" in run("compress", photo_path, "/dev/full", *MODEL).stderr


ODD_NAMES = [b"caf\xe9.cae", b"two\nlines.cae", "line\u2028separator.cae".encode(), b"\x1b[31m.cae"]
NEEDS_BYTES = pytest.mark.skipif(sys.platform != "linux", reason="names are text elsewhere")


@NEEDS_BYTES
@pytest.mark.parametrize("name", ODD_NAMES)
def test_info_shows_any_name_in_one_line(tmp_path: Path, name: bytes) -> None:
    path = os.fsencode(tmp_path) + b"/" + name
    shutil.copy(os.fsencode(GRAY), path)
    result = run("info", os.fsdecode(path))
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 2
    assert "\x1b" not in result.stdout
    assert "\\" in result.stdout.splitlines()[0]
    assert run("info", os.fsdecode(path), "--json").exit_code == 0
    assert run("verify", os.fsdecode(path)).exit_code == 0
    missing = run("info", os.fsdecode(path + b"x"))
    assert missing.exit_code == 1
    assert len(missing.stderr.splitlines()) == 1


def test_a_name_is_no_emoji(tmp_path: Path) -> None:
    assert ":cat:.cae" in run("info", tmp_path / ":cat:.cae").stderr


@NEEDS_BYTES
@pytest.mark.parametrize("end", [b"\n", b"\0"])
def test_a_filelist_holds_names_that_are_bytes(tmp_path: Path, end: bytes) -> None:
    names = [name for name in ODD_NAMES if end not in name]
    folder = os.fsencode(tmp_path) + b"/"
    for name in names:
        shutil.copy(os.fsencode(GRAY), folder + name)
    listing = tmp_path / "list"
    listing.write_bytes(b"\xef\xbb\xbf" + b"".join(folder + name + end for name in names))
    result = run("decompress", "--filelist", listing, "-n")
    assert result.exit_code == 0, result.stderr
    assert len(result.stderr.splitlines()) == len(names)


def test_a_filelist_may_end_lines_as_windows_does(tmp_path: Path) -> None:
    listing = tmp_path / "list"
    for text in (f"{GRAY}\r\n{GRAY}", f"{GRAY}\r\n{GRAY}\r\n"):
        listing.write_bytes(text.encode())
        result = run("decompress", "--filelist", listing, "-n", "-o", tmp_path)
        assert "\\r" not in result.stderr
    listing.write_text(str(GRAY), encoding="utf-16")
    result = run("decompress", "--filelist", listing)
    assert result.exit_code == 1
    assert "UTF-16" in result.stderr


def test_a_name_too_long_for_a_file_is_one_failure(photo_path: Path) -> None:
    out = photo_path.parent / "out"
    result = run("compress", "x" * 300 + ".png", photo_path, "-o", out, *MODEL)
    assert result.exit_code == 1
    assert "1 of 2 files failed" in result.stderr
    assert (out / "photo.cae").exists()
