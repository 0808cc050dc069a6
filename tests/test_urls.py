"""URLs in the command line, by fsspec's storage in memory and on disk."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from test_cli import MODEL, leftovers, run

MEMORY = fsspec.filesystem("memory")


@pytest.fixture
def bucket(photo_path: Path) -> Iterator[str]:
    """Return the URL of a folder in memory: two images and a text, in two levels."""
    MEMORY.pipe_file("/bucket/a.png", photo_path.read_bytes())
    MEMORY.pipe_file("/bucket/sub/b.PNG", photo_path.read_bytes())
    MEMORY.pipe_file("/bucket/notes.txt", b"not an image")
    yield "memory://bucket"
    MEMORY.store.clear()


def outputs(root: str = "/") -> list[str]:
    return sorted(path for path in MEMORY.find(root) if path.endswith(".cae"))


def test_a_url_becomes_a_cae_file_beside_it_and_an_image_again(bucket: str) -> None:
    result = run("compress", f"{bucket}/a.png", *MODEL)
    assert result.exit_code == 0, result.stderr
    assert outputs() == ["/bucket/a.cae"]
    assert run("verify", f"{bucket}/a.cae").exit_code == 0
    assert run("info", f"{bucket}/a.cae").exit_code == 0
    assert run("decompress", f"{bucket}/a.cae", f"{bucket}/back.webp", *MODEL).exit_code == 0
    assert MEMORY.cat_file("/bucket/back.webp")[8:12] == b"WEBP"


def test_files_and_urls_make_the_same_bytes(bucket: str, photo_path: Path) -> None:
    assert run("compress", photo_path, *MODEL).exit_code == 0
    expected = photo_path.with_suffix(".cae").read_bytes()
    local = photo_path.with_name("local.cae")
    assert run("compress", f"{bucket}/a.png", local, *MODEL).exit_code == 0
    assert local.read_bytes() == expected
    assert run("compress", photo_path, "-o", "memory://out/deep", *MODEL).exit_code == 0
    assert MEMORY.cat_file("/out/deep/photo.cae") == expected
    file_url = photo_path.parent.joinpath("new", "by-url.cae").as_uri()
    assert run("compress", photo_path.as_uri(), file_url, *MODEL).exit_code == 0
    assert (photo_path.parent / "new" / "by-url.cae").read_bytes() == expected
    assert leftovers(photo_path.parent / "new") == []


def test_json_says_the_same_of_urls_as_of_files(bucket: str) -> None:
    result = run("compress", f"{bucket}/a.png", "memory://out/a.cae", "--json", *MODEL)
    facts = json.loads(result.stdout)
    assert (facts["path"], facts["output"]) == ("memory://bucket/a.png", "memory://out/a.cae")
    assert (facts["status"], facts["bytes"]) == ("done", MEMORY.size("/out/a.cae"))


def test_r_takes_the_images_below_a_url_and_o_keeps_their_tree(bucket: str, tmp_path: Path) -> None:
    assert run("compress", "-r", bucket, "-o", "memory://out", *MODEL).exit_code == 0
    assert outputs() == ["/out/a.cae", "/out/sub/b.cae"]
    assert run("decompress", "-r", "memory://out/", "-o", tmp_path / "out", *MODEL).exit_code == 0
    assert (tmp_path / "out" / "sub" / "b.png").exists()


@pytest.mark.parametrize("folder", ["memory://bucket", "memory://bucket/"])
def test_r_puts_outputs_beside_inputs(bucket: str, folder: str) -> None:
    assert folder.startswith(bucket)
    assert run("compress", "-r", folder, *MODEL).exit_code == 0
    assert outputs() == ["/bucket/a.cae", "/bucket/sub/b.cae"]


def test_a_folder_behind_a_url_needs_r(bucket: str) -> None:
    result = run("compress", f"{bucket}/", *MODEL)
    assert result.exit_code == 2
    assert "-r" in result.stderr


def test_mirror_keeps_bucket_and_path(bucket: str, tmp_path: Path) -> None:
    url = f"{bucket}/sub/b.PNG"
    assert run("compress", url, "--output-dir-mirror", tmp_path / "out", *MODEL).exit_code == 0
    assert (tmp_path / "out" / "bucket" / "sub" / "b.cae").exists()
    assert run("compress", url, "--output-dir-mirror", "memory://out", *MODEL).exit_code == 0
    assert outputs() == ["/out/bucket/sub/b.cae"]


def test_globs_and_lists_take_urls(bucket: str) -> None:
    assert run("compress", f"{bucket}/**/*.[pP]*", "-o", "memory://out", *MODEL).exit_code == 0
    assert outputs() == ["/out/a.cae", "/out/b.cae"]
    assert run("compress", f"{bucket}/*.gif", *MODEL).exit_code == 2
    MEMORY.pipe_file("/list.txt", f"{bucket}/a.png\n\n{bucket}/sub/b.PNG\n".encode())
    listed = run("compress", "--filelist", "memory://list.txt", "-o", "memory://two", *MODEL)
    assert listed.exit_code == 0
    assert outputs("/two") == ["/two/a.cae", "/two/b.cae"]


def test_an_output_that_exists_is_kept_or_skipped(bucket: str) -> None:
    MEMORY.pipe_file("/bucket/a.cae", b"precious")
    refused = run("compress", f"{bucket}/a.png", *MODEL)
    assert refused.exit_code == 1
    assert "-f" in refused.stderr
    skipped = run("compress", "-r", bucket, "--skip-existing", *MODEL)
    assert skipped.exit_code == 0
    assert "1 skipped" in skipped.stderr
    assert MEMORY.cat_file("/bucket/a.cae") == b"precious"
    assert run("compress", f"{bucket}/a.png", "-f", *MODEL).exit_code == 0
    assert MEMORY.cat_file("/bucket/a.cae") != b"precious"


def test_an_output_that_is_the_input_is_refused(bucket: str) -> None:
    before = MEMORY.cat_file("/bucket/a.png")
    result = run("decompress", f"{bucket}/a.png", f"{bucket}/a.png", "-f", *MODEL)
    assert result.exit_code == 1
    assert "input itself" in result.stderr
    assert MEMORY.cat_file("/bucket/a.png") == before


def test_two_urls_of_one_output_are_refused(bucket: str) -> None:
    MEMORY.pipe_file("/bucket/sub/a.png", b"")
    urls = [f"{bucket}/a.png", f"{bucket}/sub/a.png"]
    result = run("compress", *urls, "-o", "memory://out", *MODEL)
    assert result.exit_code == 2
    assert "would both become memory://out/a.cae" in result.stderr


def test_inputs_are_removed_once_what_was_written_decodes(bucket: str) -> None:
    assert run("compress", f"{bucket}/a.png", "--rm", *MODEL).exit_code == 0
    assert not MEMORY.exists("/bucket/a.png")
    assert MEMORY.exists("/bucket/a.cae")


def test_what_was_not_stored_well_is_removed(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryFileSystem.pipe_file
    monkeypatch.setattr(
        MemoryFileSystem, "pipe_file", lambda self, path, value: store(self, path, value[:-9])
    )
    result = run("compress", f"{bucket}/a.png", "--rm", *MODEL)
    assert result.exit_code == 1
    assert "does not decode" in result.stderr
    assert MEMORY.exists("/bucket/a.png")
    assert outputs() == []


def test_one_missing_url_does_not_stop_the_rest(bucket: str) -> None:
    result = run("compress", f"{bucket}/none.png", f"{bucket}/a.png", "-o", "memory://out", *MODEL)
    assert result.exit_code == 1
    assert "cannot read memory://bucket/none.png: not found" in result.stderr
    assert outputs() == ["/out/a.cae"]


def test_storage_that_fails_is_one_line(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("no credentials\nfound anywhere")  # as drivers raise: not an OSError

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", refuse)
    result = run("compress", f"{bucket}/a.png", *MODEL)
    assert result.exit_code == 1
    assert "cannot write memory://bucket/a.cae: no credentials" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("protocol", "hidden", "words"),
    [("nonsense", "none", "Protocol not known: nonsense"), ("gs", "gcsfs", "caecodec[fsspec]"),
     ("memory", "fsspec.core", "caecodec[fsspec]")],
)  # fmt: skip
def test_a_url_that_nothing_opens_is_a_usage_error(
    photo_path: Path, protocol: str, hidden: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, hidden, None)
    for arguments in ([f"{protocol}://bucket/a.png"], [photo_path, "-o", f"{protocol}://bucket"]):
        result = run("compress", *arguments, *MODEL)
        assert result.exit_code == 2
        assert words in result.stderr
        assert len(result.stderr.splitlines()) == 1


def test_times_and_permissions_are_kept_of_files_only(bucket: str) -> None:
    result = run("compress", f"{bucket}/a.png", "--preserve", *MODEL)
    assert result.exit_code == 2
    assert "--preserve" in result.stderr
    assert outputs() == []


def test_without_a_url_fsspec_is_not_imported(photo_path: Path) -> None:
    command = (
        "import sys; sys.modules['fsspec'] = None\n"
        "from caecodec.cli.planning import Destination, Selection, plan_jobs\n"
        f"selection = Selection([{str(photo_path)!r}], None, False, frozenset, 'image')\n"
        "assert plan_jobs(selection, Destination('.cae'), target_suffixes=[]).jobs"
    )
    subprocess.run([sys.executable, "-c", command], check=True)
