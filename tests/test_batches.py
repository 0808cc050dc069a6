"""Many files in one command: which are taken, where outputs go, what is said."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from make_golden import TOY, synthetic_image
from PIL import Image
from test_cli import MODEL, leftovers, run

from caecodec.codec.codec import Codec


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of three images and a text, in two levels; its parent is where we are."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for number, name in enumerate(["a.png", "b.jpg", "sub/c.PNG"]):
        Image.fromarray(synthetic_image(40, 30, number)).save(folder / name)
    (folder / "notes.txt").write_text("not an image")
    monkeypatch.chdir(tmp_path)
    return folder


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_folder_needs_r(photos: Path) -> None:
    result = run("compress", photos, *MODEL)
    assert result.exit_code == 2
    assert "-r" in result.stderr


def test_r_takes_the_images_below_and_o_keeps_their_tree(photos: Path) -> None:
    assert run("compress", "-r", photos, "-o", "out", *MODEL).exit_code == 0
    assert tree(Path("out")) == ["a.cae", "b.cae", "sub/c.cae"]
    assert run("decompress", "-r", "out", "-o", "back", "--format", "ppm", *MODEL).exit_code == 0
    assert tree(Path("back")) == ["a.ppm", "b.ppm", "sub/c.ppm"]


def test_r_without_a_folder_for_outputs_puts_them_beside_inputs(photos: Path) -> None:
    assert run("compress", "-r", "photos", *MODEL).exit_code == 0
    assert {"a.cae", "b.cae", "sub/c.cae"} <= set(tree(photos))


def test_mirror_keeps_the_path_as_given(photos: Path) -> None:
    arguments = ["photos/sub/c.PNG", "photos/a.png", "--output-dir-mirror", "out"]
    assert run("compress", *arguments, *MODEL).exit_code == 0
    assert tree(Path("out")) == ["photos/a.cae", "photos/sub/c.cae"]
    absolute = photos / "b.jpg"
    assert run("compress", absolute, "--output-dir-mirror", "out", *MODEL).exit_code == 0
    assert (Path("out") / absolute.relative_to("/")).with_suffix(".cae").exists()


def test_mirror_never_leaves_its_folder(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos / "sub")
    assert run("compress", "../a.png", "--output-dir-mirror", "out", *MODEL).exit_code == 0
    assert tree(Path("out")) == ["a.cae"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("photos/*.png", ["a.cae"]), ("photos/**/*.[pP]*", ["a.cae", "c.cae"])],
)
def test_quoted_globs_are_expanded(photos: Path, pattern: str, expected: list[str]) -> None:
    assert photos.exists()
    assert run("compress", pattern, "-o", "out", *MODEL).exit_code == 0
    assert tree(Path("out")) == expected


def test_a_glob_without_matches_is_a_usage_error(photos: Path) -> None:
    result = run("compress", f"{photos}/*.gif", *MODEL)
    assert result.exit_code == 2
    assert "no file matches" in result.stderr


def test_a_file_whose_name_looks_like_a_glob_is_a_file(photos: Path) -> None:
    shutil.copy(photos / "a.png", photos / "a[1].png")
    assert run("compress", photos / "a[1].png", *MODEL).exit_code == 0
    assert (photos / "a[1].cae").exists()


def test_a_filelist_names_inputs(photos: Path) -> None:
    Path("list.txt").write_text("photos/a.png\n\nphotos/sub/c.PNG\n")
    assert run("compress", "--filelist", "list.txt", "-o", "out", *MODEL).exit_code == 0
    assert tree(Path("out")) == ["a.cae", "c.cae"]
    assert run("compress", "--filelist", "none.txt", *MODEL).exit_code == 1
    assert run("compress", *MODEL).exit_code == 2
    assert photos.exists()


def test_two_inputs_of_one_output_are_refused(photos: Path) -> None:
    shutil.copy(photos / "a.png", photos / "sub" / "a.png")
    result = run("compress", photos / "a.png", photos / "sub" / "a.png", "-o", "out", *MODEL)
    assert result.exit_code == 2
    assert "would both become" in result.stderr
    assert not Path("out").exists()


def test_all_outputs_with_several_inputs_are_named_at_once(photos: Path) -> None:
    for name in ("a.bmp", "a.tif", "sub/c.jpg"):
        shutil.copy(photos / "a.png", photos / name)
    result = run("compress", "-r", "photos", "-o", "out", *MODEL)
    assert result.exit_code == 2
    assert (
        "photos/a.bmp and photos/a.png and photos/a.tif would all become out/a.cae; "
        "photos/sub/c.PNG and photos/sub/c.jpg would both become out/sub/c.cae: "
        "give them different names or folders, or --keep-suffix\n"
    ) in result.stderr
    for number in range(30):
        for suffix in ("png", "bmp"):
            shutil.copy(photos / "a.png", photos / f"x{number:02}.{suffix}")
    result = run("compress", "-r", "photos", "-o", "out", *MODEL)
    assert result.stderr.count(" would ") == 10
    assert "; 22 more: give" in result.stderr
    assert not Path("out").exists()


def test_keep_suffix_tells_outputs_apart_and_the_way_back_is_unambiguous(photos: Path) -> None:
    shutil.copy(photos / "a.png", photos / "a.jpg")
    assert run("compress", "-r", photos, "-o", "out", "--keep-suffix", *MODEL).exit_code == 0
    assert tree(Path("out")) == ["a.jpg.cae", "a.png.cae", "b.jpg.cae", "sub/c.PNG.cae"]
    assert run("decompress", "-r", "out", "-o", "back", *MODEL).exit_code == 0
    assert tree(Path("back")) == ["a.jpg.png", "a.png", "b.jpg.png", "sub/c.PNG"]
    assert run("compress", photos / "b.jpg", "--keep-suffix", *MODEL).exit_code == 0
    assert (photos / "b.jpg.cae").exists()
    arguments = ["photos/sub/c.PNG", "--output-dir-mirror", "mirror", "--keep-suffix"]
    assert run("compress", *arguments, *MODEL).exit_code == 0
    assert tree(Path("mirror")) == ["photos/sub/c.PNG.cae"]


def test_keep_suffix_is_offered_only_where_it_helps(photos: Path) -> None:
    shutil.copy(photos / "a.png", photos / "sub" / "a.png")
    result = run("compress", photos / "a.png", photos / "sub" / "a.png", "-o", "out", *MODEL)
    assert "--keep-suffix" not in result.stderr
    for name in ("a.cae", "sub/a.CAE"):
        (photos / name).touch()
    result = run("decompress", photos / "a.cae", photos / "sub" / "a.CAE", "-o", "out", *MODEL)
    assert "would both become out/a.png: give them different names or folders\n" in result.stderr


def test_existing_outputs_are_skipped_on_request(photos: Path) -> None:
    (photos / "a.cae").write_bytes(b"precious")
    result = run("compress", "-r", photos, "--skip-existing", *MODEL)
    assert result.exit_code == 0
    assert "1 skipped" in result.stderr
    assert (photos / "a.cae").read_bytes() == b"precious"
    assert run("compress", "-r", photos, *MODEL).exit_code == 1  # without it: three errors
    assert run("compress", "-r", photos, "--skip-existing", "-f", *MODEL).exit_code == 2


def test_a_dry_run_writes_nothing_and_names_what_would_fail(photos: Path) -> None:
    (photos / "a.cae").write_bytes(b"precious")
    before = tree(photos)
    result = run("compress", "-rn", photos, *MODEL)
    assert result.exit_code == 1
    assert "would make" in result.stderr
    assert "a.cae exists" in "".join(result.stderr.splitlines())
    assert tree(photos) == before
    assert run("compress", "-rn", photos, "-o", "out", *MODEL).exit_code == 0
    assert not Path("out").exists()


def test_one_bad_file_never_stops_the_rest(photos: Path) -> None:
    (photos / "bad.png").write_bytes(b"no image")
    for workers in ("1", "3"):
        out = f"out{workers}"
        result = run("compress", "-r", photos, "-o", out, "-j", workers, *MODEL)
        assert result.exit_code == 1
        assert "1 of 4 files failed" in result.stderr
        assert "bad.png" in result.stderr
        assert tree(Path(out)) == ["a.cae", "b.cae", "sub/c.cae"]


def test_threads_make_the_same_files(photos: Path) -> None:
    assert run("compress", "-r", photos, "-o", "one", *MODEL).exit_code == 0
    assert run("compress", "-r", photos, "-o", "three", "-j", "3", *MODEL).exit_code == 0
    for name in tree(Path("one")):
        assert (Path("one") / name).read_bytes() == (Path("three") / name).read_bytes()


def test_preserve_keeps_times_and_mode(photos: Path) -> None:
    source = photos / "a.png"
    source.chmod(0o640)
    os.utime(source, (1e9, 1e9))
    assert run("compress", source, "--preserve", *MODEL).exit_code == 0
    found = source.with_suffix(".cae").stat()
    assert (found.st_mode & 0o777, found.st_mtime) == (0o640, 1e9)


def test_json_is_one_object_a_file(photos: Path) -> None:
    (photos / "bad.png").write_bytes(b"no image")
    result = run("compress", "-r", photos, "-o", "out", "--json", "--psnr", *MODEL)
    facts = {Path(one["path"]).name: one for one in map(json.loads, result.stdout.splitlines())}
    assert set(facts) == {"a.png", "b.jpg", "bad.png", "c.PNG", "photos"}
    assert facts["photos"]["left_out"] == {".txt": 1}
    assert facts["photos"]["status"] == "left out"
    assert facts["bad.png"]["status"] == "failed"
    assert "not an image" in facts["bad.png"]["error"]
    good = facts["a.png"]
    data = Path("out/a.cae").read_bytes()
    assert (good["status"], good["output"], good["bytes"]) == ("done", "out/a.cae", len(data))
    assert good["bpp"] == 8 * len(data) / (40 * 30)
    assert good["seconds"] > 0
    decoded = np.array(Codec(TOY).decompress(data)).astype(float)
    error = np.square(decoded - synthetic_image(40, 30, 0)).mean()
    assert good["psnr"] == pytest.approx(10 * np.log10(255**2 / error), abs=1e-3)
    back = run("decompress", "out/a.cae", "--json", *MODEL)
    assert json.loads(back.stdout)["bytes"] == len(data)
    whole = run("verify", "out/a.cae", "--json")
    assert json.loads(whole.stdout)["status"] == "done"
    assert run("compress", photos / "a.png", "-", "--json", *MODEL).exit_code == 2


@pytest.mark.parametrize(
    ("style", "expected"),
    [("auto", "photos/a.png -> "), ("plain", "1/3 photos/a.png -> "), ("none", ""), ("bar", "")],
)
def test_progress_styles(photos: Path, style: str, expected: str) -> None:
    assert photos.exists()
    result = run("compress", "-r", "photos", "-o", "out", "--progress", style, *MODEL)
    assert result.exit_code == 0
    lines = result.stderr.splitlines()
    assert lines[0].startswith(expected or "3 files")
    assert len(lines) == (4 if expected else 1)
    assert "3 files, 0.0 megapixels, " in lines[-1]


def test_an_output_folder_that_is_a_file_is_refused(photos: Path) -> None:
    for option in ("-o", "--output-dir-mirror"):
        result = run("compress", "-r", photos, option, photos / "notes.txt", *MODEL)
        assert result.exit_code == 2
        assert "is a file" in result.stderr


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")
@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_interrupt_leaves_whole_files_only(photos: Path, workers: str) -> None:
    for number in range(60):
        shutil.copy(photos / "a.png", photos / f"{number:03}.png")
    arguments = ["-r", "photos", "-o", "out", "-j", workers, "-e", "7", *MODEL]
    child = subprocess.Popen(
        [sys.executable, "-m", "caecodec", "compress", *arguments], stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 60
    while not list(Path().glob("out/*.cae")) and time.monotonic() < deadline:
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    _, stderr = child.communicate(timeout=60)
    assert child.returncode == 130
    assert b"interrupted" in stderr
    assert leftovers(Path("out")) == []
    files = list(Path("out").rglob("*.cae"))
    assert 0 < len(files) < 63
    codec = Codec(TOY)
    assert all(codec.decompress(file.read_bytes()).size == (40, 30) for file in files)


def test_the_summary_tells_what_is_left_out_by_kind(photos: Path) -> None:
    (photos / "more.txt").touch()
    (photos / "README").touch()
    result = run("compress", "-r", photos, "-o", "out", *MODEL)
    assert result.exit_code == 0
    assert "3 left out (2 .txt, 1 without suffix)" in result.stderr


def test_r_takes_every_raster_format_and_no_other(photos: Path) -> None:
    with Image.open(photos / "a.png") as image:
        for name in ("d.gif", "e.tga", "f.jp2", "g.qoi", "h.jfif"):
            image.save(photos / name)
        image.save(photos / "i.mpo", "MPO", save_all=True, append_images=[image])
    for name in ("x.pdf", "x.eps", "x.wmf", "x.cae"):
        (photos / name).touch()
    result = run("compress", "-r", photos, "-o", "out", *MODEL)
    assert result.exit_code == 0, result.stderr
    assert tree(Path("out")) == sorted([*(f"{name}.cae" for name in "abdefghi"), "sub/c.cae"])
    for suffix in (".pdf", ".eps", ".wmf", ".cae", ".txt"):
        assert f"1 {suffix}" in result.stderr


def test_a_folder_of_which_nothing_is_taken_fails_and_the_rest_goes_on(photos: Path) -> None:
    assert photos.exists()
    for name in ("empty", "texts"):
        Path(name).mkdir()
    for name in ("a.txt", "b.txt", "c.pdf"):
        (Path("texts") / name).touch()
    result = run("compress", "-r", "texts", "empty", "photos", "-o", "out", *MODEL)
    assert result.exit_code == 1
    assert "texts: no image to take, left out: 2 .txt, 1 .pdf" in result.stderr
    assert "empty: no image to take, it is empty" in result.stderr
    assert tree(Path("out")) == ["a.cae", "b.cae", "sub/c.cae"]
    alone = run("decompress", "-r", "empty", "--json", *MODEL)
    assert alone.exit_code == 1
    assert json.loads(alone.stdout)["status"] == "failed"


def test_a_folder_that_cannot_be_read_is_a_failure(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("sub"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    with monkeypatch.context() as patch:
        patch.setattr("os.scandir", refuse)
        result = run("compress", "-r", "photos", "-o", "out", *MODEL)
    assert result.exit_code == 1
    assert "error: photos/sub: cannot read this folder: Permission denied" in result.stderr
    assert tree(Path("out")) == ["a.cae", "b.cae"]
    assert photos.exists()


@pytest.mark.skipif(os.name == "nt", reason="named pipes are POSIX")
def test_pipes_and_links_to_folders_are_left_out_and_broken_links_fail(photos: Path) -> None:
    os.mkfifo(photos / "pipe.png")
    (photos / "loop").symlink_to(photos)
    result = run("compress", "-r", photos, "-o", "out", *MODEL)
    assert result.exit_code == 0
    assert "1 pipe or device" in result.stderr
    assert "1 link to a folder" in result.stderr
    (photos / "broken.png").symlink_to("nowhere.png")
    result = run("compress", "-r", photos, "-o", "out", "-f", *MODEL)
    assert result.exit_code == 1
    assert "no file photos" in result.stderr.replace(f"{photos.parent}/", "")
