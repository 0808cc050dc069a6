"""What a release has frozen stays: golden/check_frozen.py, in a small repository of its own."""

from __future__ import annotations

import os
from pathlib import Path

import check_frozen
import pytest

pytestmark = pytest.mark.slow

DECODE = "tests/golden/decode/a.cae"
SHIPPED = "tests/golden/shipped/psnr.png"
EXPECTED = "tests/golden/errors/expected.json"
VECTORS = "tests/vectors/grid.json"
FILES = {
    DECODE: "a file",
    SHIPPED: "its pixels",
    EXPECTED: '{\n  "empty.cae": "TruncatedError"\n}\n',
    VECTORS: '[\n{"name": "one"}\n]\n',
    "tests/vectors/README.md": "words",
}
GROWN = {
    EXPECTED: '{\n  "empty.cae": "TruncatedError",\n  "long.cae": "FormatError"\n}\n',
    VECTORS: '[\n{"name": "one"},\n{"name": "two"}\n]\n',
}


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of one commit that holds FILES."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)  # a hook's would name another repository
    check_frozen.git(tmp_path, "init", "-q")
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8", newline="\n")
    commit(tmp_path)
    return tmp_path


def commit(repository: Path) -> None:
    check_frozen.git(repository, "add", ".")
    author = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    check_frozen.git(repository, *author, "commit", "-q", "-m", "files")


def tag(repository: Path, name: str) -> None:
    check_frozen.git(repository, "-c", "tag.gpgsign=false", "tag", name)


def check(repository: Path) -> str | None:
    return check_frozen.main(repository)


@pytest.mark.parametrize("earlier", [None, "v0.9.0", "v1.0.0rc1", "model-v1.0.0"])
def test_nothing_is_frozen_before_release_1(
    earlier: str | None, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if earlier:
        tag(repository, earlier)
    (repository / DECODE).write_text("another file")
    assert check(repository) is None
    assert "not released yet" in capsys.readouterr().out


@pytest.mark.parametrize("name", [DECODE, SHIPPED, EXPECTED, VECTORS])
@pytest.mark.parametrize("is_committed", [False, True])
def test_a_released_file_that_is_changed_or_removed_is_named(
    name: str, is_committed: bool, repository: Path
) -> None:
    tag(repository, "v1.0.0")
    for change in (lambda path: path.write_text("other"), Path.unlink):
        change(repository / name)
        if is_committed:
            commit(repository)
        message = f"{name} was changed or removed: git checkout v1.0.0 -- {name}"
        assert check(repository) == message


def test_files_and_cases_may_be_added_after_a_release(repository: Path) -> None:
    tag(repository, "v1.0.0")
    (repository / DECODE).with_name("b.cae").write_text("one more")
    for name, text in GROWN.items():
        (repository / name).write_text(text)
    (repository / "tests/vectors/README.md").write_text("other words")
    assert check(repository) is None


def test_a_renamed_file_is_missing(repository: Path) -> None:
    tag(repository, "v1.0.0")
    (repository / DECODE).rename((repository / DECODE).with_name("b.cae"))
    commit(repository)
    assert check(repository).startswith(f"{DECODE} was changed or removed")


def test_the_newest_release_in_the_history_counts(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tag(repository, "v1.9.0")
    added = repository / "tests/golden/decode/b.cae"
    added.write_text("one more")
    commit(repository)
    tag(repository, "v1.10.0")
    added.write_text("another")
    assert check(repository).startswith("tests/golden/decode/b.cae was changed or removed")
    assert "as of v1.10.0" in capsys.readouterr().out
    check_frozen.git(repository, "checkout", "-q", "-f", "v1.9.0")
    assert check(repository) is None
