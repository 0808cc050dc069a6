"""What must not end a batch, and how the program ends when its streams do."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from make_golden import TOY
from test_cli import MODEL, run
from typer.testing import CliRunner

from caecodec.benchmark.baselines import load_baselines
from caecodec.cli.app import app
from caecodec.codec.codec import Codec
from caecodec.errors import CodecError
from caecodec.train.checkpoint import load_checkpoint

GRAY = TOY.parent / "decode" / "gray.cae"
POSIX = pytest.mark.skipif(os.name == "nt", reason="a POSIX shell")


def shell(command: str) -> subprocess.CompletedProcess[str]:
    """Run a line of sh, in which $CAE is the program and $IN a file."""
    names = {"CAE": f"{sys.executable} -m caecodec", "IN": str(GRAY)}
    return subprocess.run(
        ["bash", "-c", command],  # PIPESTATUS
        env=os.environ | names,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        MemoryError(),
        ImportError("libtorch.so: failed to map segment from shared object"),
    ],
)
def test_too_little_memory_is_one_line_and_the_rest_goes_on(
    photo_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    other = photo_path.with_name("other.png")
    other.write_bytes(photo_path.read_bytes())
    compress, calls = Codec.compress, []

    def fail_first(*args: object, **options: object) -> bytes:
        calls.append(args)
        if len(calls) == 1:
            raise error
        return compress(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Codec, "compress", fail_first)
    result = run("compress", photo_path, other, *MODEL)
    assert result.exit_code == 1
    assert f"error: {photo_path}: out of memory" in result.stderr
    assert "Traceback" not in result.stderr
    assert other.with_suffix(".cae").exists()


def test_a_defect_of_the_program_is_not_hidden(
    photo_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> bytes:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(Codec, "compress", fail)
    result = run("compress", photo_path, *MODEL)
    assert isinstance(result.exception, RuntimeError)


def test_a_closed_stream_is_an_error_in_one_line(
    photo_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from caecodec.cli import console, jobs  # noqa: PLC0415
    from caecodec.errors import FileError  # noqa: PLC0415
    from caecodec.files.places import read_file  # noqa: PLC0415

    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(FileError, match="stdin is closed"):
        read_file("-")
    monkeypatch.setattr("sys.stdout", None)
    with pytest.raises(FileError, match="closed"):
        console.say("x")
    with pytest.raises(FileError, match="closed"):
        jobs.check_target(jobs.Job(str(photo_path), "-"), force=False)


@POSIX
@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "said"),
    [("info - <&-", "stdin is closed"), ('info "$IN" >&-', "stdout: it is closed"),
     ('decompress "$IN" - >&-', "stdout: it is closed")],
)  # fmt: skip
def test_the_program_says_which_stream_is_closed(command: str, said: str) -> None:
    done = shell(f"$CAE {command}")
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


@POSIX
@pytest.mark.slow
def test_a_reader_that_leaves_ends_the_program_quietly() -> None:
    many = " ".join(['"$IN"'] * 2000)
    done = shell(f"$CAE info {many} | head -1; exit ${{PIPESTATUS[0]}}")
    assert done.returncode == 141
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 1


def test_errors_of_the_system_name_the_file_once(
    photo_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr("PIL.Image.open", refuse)
        result = run("compress", photo_path, *MODEL)
    assert result.stderr == f"error: cannot read {photo_path}: Permission denied\n"
    monkeypatch.setattr(Path, "mkdir", refuse)
    result = run("compress", photo_path, "-o", "none/deep", "--json", *MODEL)
    assert result.stderr == f"error: {photo_path}: none/deep: Permission denied\n"
    assert json.loads(result.stdout)["error"] == "none/deep: Permission denied"


def test_a_folder_in_place_of_a_file_is_named_once(tmp_path: Path) -> None:
    for loads in (load_checkpoint, load_baselines):
        with pytest.raises(CodecError, match="Is a directory") as raised:
            loads(tmp_path)
        assert "Errno" not in str(raised.value)
        assert str(raised.value).count(str(tmp_path)) == 1


def test_every_bracket_in_a_help_text_is_shown() -> None:
    wide = {"COLUMNS": "400", "TERMINAL_WIDTH": "400"}
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        printed = CliRunner().invoke(app, [name, "--help"], env=wide).stdout
        texts = [command.help, *(getattr(option, "help", None) for option in command.params)]
        for bracket in re.findall(r"\[[^\]]*\]", " ".join(filter(None, texts))):
            assert bracket in printed, name
