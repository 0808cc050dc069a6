import dataclasses
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from make_golden import TOY, synthetic_image
from PIL import Image
from typer.testing import CliRunner, Result

from caecodec import __version__
from caecodec.cli.app import app
from caecodec.codec.codec import Codec
from caecodec.format.container import pack, unpack

MODEL = ["--model", str(TOY)]


def run(*args: object, stdin: bytes = b"") -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args], input=stdin)


def run_python(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", command], capture_output=True, text=True, check=False
    )


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.endswith(".partial")]


@pytest.fixture
def cae_path(photo_path: Path) -> Path:
    assert run("compress", photo_path, *MODEL).exit_code == 0
    return photo_path.with_suffix(".cae")


def test_one_input_becomes_a_cae_file_beside_it(photo_path: Path) -> None:
    result = run("compress", photo_path, *MODEL)
    assert result.exit_code == 0
    assert photo_path.with_suffix(".cae").read_bytes().startswith(b"\x89CAE")
    assert result.stdout == ""
    assert "bpp" in result.stderr


def test_two_paths_of_which_the_second_is_a_cae_file_mean_in_out(photo_path: Path) -> None:
    out = photo_path.with_name("small.cae")
    assert run("compress", photo_path, out, "-q", "12.5", *MODEL).exit_code == 0
    facts = json.loads(run("info", out, "--json").stdout)
    assert facts["quality"] == 12.5
    assert (facts["width"], facts["height"]) == (90, 70)
    assert sum(facts["box_bytes"].values()) == facts["num_bytes"] == out.stat().st_size


def test_many_inputs_go_to_a_folder_that_is_made(photo_path: Path, tmp_path: Path) -> None:
    other = photo_path.with_name("other.bmp")
    Image.open(photo_path).save(other)
    folder = tmp_path / "new" / "folder"
    assert run("compress", photo_path, other, "-o", folder, *MODEL).exit_code == 0
    assert sorted(path.name for path in folder.iterdir()) == ["other.cae", "photo.cae"]


def test_decompress_writes_png_by_default(cae_path: Path) -> None:
    assert run("decompress", cae_path, "-f", *MODEL).exit_code == 0
    with Image.open(cae_path.with_suffix(".png")) as image:
        assert (image.format, image.size) == ("PNG", (90, 70))


@pytest.mark.parametrize(
    ("suffix", "image_format"),
    [(".png", "PNG"), (".jpg", "JPEG"), (".webp", "WEBP"), (".avif", "AVIF"), (".tiff", "TIFF"),
     (".bmp", "BMP"), (".ppm", "PPM")],
)  # fmt: skip
def test_the_suffix_picks_the_format(cae_path: Path, suffix: str, image_format: str) -> None:
    out = cae_path.with_name("out" + suffix)
    assert run("decompress", cae_path, out, *MODEL).exit_code == 0
    with Image.open(out) as image:
        assert image.format == image_format


def test_format_picks_the_suffix_of_many_outputs(cae_path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    assert run("decompress", cae_path, "-o", folder, "--format", "webp", *MODEL).exit_code == 0
    assert [path.name for path in folder.iterdir()] == ["photo.webp"]


def test_pictures_of_a_file_that_are_not_stored_are_counted(tmp_path: Path) -> None:
    view = Image.new("RGB", (16, 16))
    view.save(tmp_path / "stereo.jpg", "MPO", save_all=True, append_images=[view])
    result = run("compress", tmp_path / "stereo.jpg", *MODEL)
    assert result.exit_code == 0
    assert "not stored: 1 more picture" in " ".join(result.stderr.split())


def test_rm_keeps_a_source_that_is_not_stored_whole(tmp_path: Path, photo_path: Path) -> None:
    stereo, view = tmp_path / "stereo.mpo", Image.new("RGB", (16, 16))
    view.save(stereo, "MPO", save_all=True, append_images=[view, view])
    result = run("compress", stereo, photo_path, "--rm", *MODEL)
    assert result.exit_code == 0
    kept = f"{stereo} kept: its output lacks 2 more pictures; --rm-incomplete deletes it"
    assert kept in result.stderr
    assert "2 files, " in result.stderr
    assert "1 kept (not stored whole)" in result.stderr
    assert stereo.exists()
    assert not photo_path.exists()
    result = run("compress", stereo, "-f", "--rm-incomplete", *MODEL)
    assert result.exit_code == 0
    assert "not stored: 2 more pictures" in result.stderr
    assert "kept" not in result.stderr
    assert not stereo.exists()


def test_json_lists_what_is_not_stored(tmp_path: Path, photo_path: Path) -> None:
    stereo, view = tmp_path / "stereo.mpo", Image.new("RGB", (16, 16))
    view.save(stereo, "MPO", save_all=True, append_images=[view])
    result = run("compress", stereo, photo_path, tmp_path / "none.png", "-o", tmp_path / "out",
                 "--json", "--rm", *MODEL)  # fmt: skip
    facts = [json.loads(line)["not_stored"] for line in result.stdout.splitlines()]
    assert facts == [["1 more picture"], [], []]
    assert stereo.exists()


def test_pipes_carry_data_on_stdout_and_words_on_stderr(photo_path: Path) -> None:
    packed = run("compress", "-", "-", *MODEL, stdin=photo_path.read_bytes())
    assert packed.exit_code == 0
    assert packed.stdout_bytes.startswith(b"\x89CAE")
    unpacked = run("decompress", "-", "-", "--format", "ppm", *MODEL, stdin=packed.stdout_bytes)
    assert unpacked.exit_code == 0
    with Image.open(io.BytesIO(unpacked.stdout_bytes)) as image:
        assert (image.format, image.size) == ("PPM", (90, 70))


def test_an_output_that_exists_is_kept_without_force(photo_path: Path) -> None:
    out = photo_path.with_suffix(".cae")
    out.write_bytes(b"precious")
    result = run("compress", photo_path, *MODEL)
    assert result.exit_code == 1
    assert "-f" in result.stderr
    assert out.read_bytes() == b"precious"
    assert run("compress", photo_path, "-f", *MODEL).exit_code == 0
    assert out.read_bytes() != b"precious"


def test_an_output_that_is_the_input_is_refused_even_with_force(photo_path: Path) -> None:
    link = photo_path.with_name("link.cae")
    link.symlink_to(photo_path)
    before = photo_path.read_bytes()
    result = run("compress", photo_path, link, "-f", *MODEL)
    assert result.exit_code == 1
    assert "input itself" in result.stderr
    assert photo_path.read_bytes() == before


def test_one_bad_file_does_not_stop_the_rest(photo_path: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(photo_path.read_bytes()[:100])
    result = run("compress", bad, tmp_path / "none.png", photo_path, "-o", tmp_path / "out", *MODEL)
    assert result.exit_code == 1
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["photo.cae"]
    assert "bad.png" in result.stderr
    assert "none.png" in result.stderr
    assert "2 of 3 files failed" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_damaged_cae_file_writes_nothing(cae_path: Path) -> None:
    data = bytearray(cae_path.read_bytes())
    data[60] ^= 1
    cae_path.write_bytes(data)
    out = cae_path.with_name("out.png")
    result = run("decompress", cae_path, out, *MODEL)
    assert result.exit_code == 1
    assert "damaged" in result.stderr
    assert not out.exists()
    assert not leftovers(out.parent)


@pytest.mark.slow
def test_a_file_that_is_not_cae_is_told_without_loading_torch(photo_path: Path) -> None:
    command = (
        "import sys; from caecodec.cli.app import app\n"
        f"try: app(['decompress', {str(photo_path)!r}, 'out.png'])\n"
        "except SystemExit as stop: assert stop.code == 1\n"
        "assert 'torch' not in sys.modules"
    )
    done = run_python(command)
    assert done.returncode == 0, done.stderr
    assert "not a .cae file" in done.stderr


def test_two_inputs_with_one_output_are_a_usage_error(photo_path: Path) -> None:
    other = photo_path.with_suffix(".bmp")
    Image.open(photo_path).save(other)
    result = run("compress", photo_path, other, *MODEL)
    assert result.exit_code == 2
    assert "both become" in result.stderr


@pytest.mark.parametrize(
    "args",
    [
        ["compress"],
        ["compress", "a.png", "-q", "101"],
        ["compress", "a.png", "-q", "nan"],
        ["compress", "a.png", "--quality", "high"],
        ["decompress", "a.cae", "--format", "gif"],
        ["decompress", "a.cae", "--crop", "1,2,3"],
        ["decompress", "a.cae", "--crop", "-1,0,3,3"],
        ["bench", ".", "--codecs", "gif"],
        ["bench", ".", "--qualities", "10,many"],
        ["train", ".", "--out", "weights.safetensors"],
        ["train", ".", "--out", "weights.pt", "--steps", "1"],
        ["train", ".", "--out", "weights.safetensors", "--steps", "1", "--from-average"],
        ["unknown"],
    ],
)
def test_usage_errors_exit_with_2(
    args: list[str], photo_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photo_path.parent)
    photo_path.rename("a.png")
    result = run(*args, *(MODEL if args[0] == "compress" else []))
    assert result.exit_code == 2
    assert "Traceback" not in result.stderr


def test_an_interrupt_exits_with_130_and_leaves_nothing(
    photo_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupt)
    result = run("compress", photo_path, *MODEL)
    assert result.exit_code == 130
    assert not photo_path.with_suffix(".cae").exists()
    assert not leftovers(photo_path.parent)


def test_a_full_disk_leaves_the_old_file_whole(
    photo_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = photo_path.with_suffix(".cae")
    out.write_bytes(b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    result = run("compress", photo_path, "-f", *MODEL)
    assert result.exit_code == 1
    assert "No space left" in result.stderr
    assert out.read_bytes() == b"old"
    assert not leftovers(out.parent)


def test_unknown_models_are_named() -> None:
    result = run("compress", TOY, "--model", "imaginary")
    assert result.exit_code == 1


def test_info_lists_failures_and_goes_on(cae_path: Path, photo_path: Path) -> None:
    result = run("info", photo_path, cae_path)
    assert result.exit_code == 1
    assert "not a .cae file" in result.stderr
    assert "90 x 70 RGB, quality 50" in result.stdout


def test_models_prints_digest_parameters_and_compute(toy: object) -> None:
    result = run("models", "--model", TOY)
    assert result.exit_code == 0
    assert toy.digest.hex() in result.stdout  # type: ignore[attr-defined]
    assert "kMAC/px" in result.stdout


def test_version_is_the_packages() -> None:
    assert run("--version").stdout.strip() == f"caecodec {__version__}"


@pytest.mark.slow
@pytest.mark.parametrize(
    "args", [["--help"], ["info", "--help"], ["info", str(TOY.parent / "decode" / "gray.cae")]]
)
def test_help_and_info_load_neither_torch_nor_numpy(args: list[str]) -> None:
    command = (
        "import sys; from caecodec.cli.app import app\n"
        f"try: app({args!r})\n"
        "except SystemExit as stop: assert not stop.code\n"
        "assert not {'torch', 'numpy', 'constriction'} & set(sys.modules)"
    )
    done = run_python(command)
    assert done.returncode == 0, done.stderr


def test_every_command_has_an_example_that_names_it() -> None:
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        assert re.search(rf"Examples?:\s+.*caecodec {name} ", command.help, re.DOTALL), name


@pytest.mark.slow
def test_bench_writes_its_results(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.fromarray(synthetic_image(192, 176, 4)).save(folder / "a.png")
    out = tmp_path / "results"
    result = run(
        "bench", folder, "--codecs", "cae,jpeg", "--qualities", "10,40,70,90", "--out", out, *MODEL
    )
    assert result.exit_code == 0, result.stderr
    assert sorted(path.name for path in out.iterdir()) == [
        "rd-ms_ssim.svg",
        "rd-ssimulacra2.svg",
        "rd.png",
        "rd.svg",
        "report.html",
        "results.csv",
        "results.json",
    ]
    points = json.loads((out / "results.json").read_text())["points"]
    assert {point["codec"] for point in points} == {"cae", "jpeg", "jpeg-444"}


def test_output_keeps_the_permissions_of_the_file_it_replaces(photo_path: Path) -> None:
    out = photo_path.with_suffix(".cae")
    out.write_bytes(b"")
    out.chmod(0o640)
    assert run("compress", photo_path, "-f", *MODEL).exit_code == 0
    assert out.stat().st_mode & 0o777 == 0o640


def test_new_outputs_follow_the_umask(photo_path: Path) -> None:
    umask = os.umask(0o027)
    try:
        assert run("compress", photo_path, *MODEL).exit_code == 0
    finally:
        os.umask(umask)
    assert photo_path.with_suffix(".cae").stat().st_mode & 0o777 == 0o640


def test_decoded_files_are_what_the_codec_decodes(cae_path: Path, toy: object) -> None:
    run("decompress", cae_path, cae_path.with_name("out.png"), *MODEL)
    expected = np.array(toy.decompress(cae_path.read_bytes()))  # type: ignore[attr-defined]
    with Image.open(cae_path.with_name("out.png")) as image:
        assert np.array_equal(np.array(image), expected)


def test_a_crop_of_a_file_is_written(cae_path: Path, tmp_path: Path) -> None:
    whole, part, none = (tmp_path / f"{name}.png" for name in ("whole", "part", "none"))
    assert run("decompress", cae_path, whole, *MODEL).exit_code == 0
    assert run("decompress", cae_path, part, "--crop", "20,10,30,40", *MODEL).exit_code == 0
    with Image.open(whole) as image, Image.open(part) as cropped:
        expected = np.array(image).astype(int)[10:50, 20:50]
        assert np.abs(np.array(cropped) - expected).max() <= 1
    result = run("decompress", cae_path, none, "--crop", "80,0,30,1", *MODEL)
    assert result.exit_code == 1
    assert "90 x 70 pixels" in result.stderr
    assert not none.exists()


def test_rm_removes_the_input_only_after_what_was_written_decodes(
    photo_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = photo_path.with_suffix(".cae")
    fsync = os.fsync

    def damage(handle: int) -> None:
        os.pwrite(handle, b"?", 40)
        fsync(handle)

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", damage)
        for option in ("--rm", "--verify"):
            assert run("compress", photo_path, option, *MODEL).exit_code == 1
            assert photo_path.exists()
            assert not out.exists()
            assert not leftovers(photo_path.parent)
    assert run("compress", photo_path, "--verify", *MODEL).exit_code == 0
    assert photo_path.exists()
    assert run("compress", photo_path, "--rm", "-f", *MODEL).exit_code == 0
    assert not photo_path.exists()
    assert run("verify", "--deep", out, *MODEL).exit_code == 0


def test_verify_and_rm_need_files(photo_path: Path) -> None:
    for option in ("--verify", "--rm"):
        result = run("compress", photo_path, "-", option, *MODEL)
        assert result.exit_code == 2
        assert "need files" in result.stderr


def test_verify_tells_whole_files_from_damaged_ones(cae_path: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    assert run("verify", cae_path).exit_code == 0
    deep = run("verify", "--deep", cae_path, *MODEL)
    assert deep.exit_code == 0
    assert "whole, 90 x 70, 1 tile, symbols decoded" in "".join(deep.stderr.splitlines())
    assert sorted(tmp_path.iterdir()) == before
    damaged = tmp_path / "damaged.cae"
    damaged.write_bytes(cae_path.read_bytes()[:-1])
    result = run("verify", damaged, cae_path)
    assert result.exit_code == 1
    assert "whole, 90 x 70" in "".join(result.stderr.splitlines())
    assert "1 of 2 files failed" in result.stderr


def test_verify_deep_finds_symbols_that_are_not_those_encoded(toy: Codec, tmp_path: Path) -> None:
    container = unpack(toy.compress(synthetic_image(40, 40, 1)))
    (tile,) = container.tiles
    wrong = dataclasses.replace(tile, symbols_crc=tile.symbols_crc ^ 1)
    path = tmp_path / "wrong.cae"
    path.write_bytes(pack(dataclasses.replace(container, tiles=(wrong,))))
    assert run("verify", path).exit_code == 0
    result = run("verify", "--deep", path, *MODEL)
    assert result.exit_code == 1
    assert "not those encoded" in result.stderr


def test_a_target_size_is_met(photo_path: Path) -> None:
    out = photo_path.with_suffix(".cae")
    assert run("compress", photo_path, "--target-size", "0.5k", "-e", "1", *MODEL).exit_code == 0
    assert 480 <= out.stat().st_size <= 500


def test_a_target_out_of_range_fails_and_writes_nothing(photo_path: Path) -> None:
    out = photo_path.with_suffix(".cae")
    result = run("compress", photo_path, "--target-size", "40", *MODEL)
    assert result.exit_code == 1
    assert "out of range" in result.stderr
    assert not out.exists()
    accepted = run("compress", photo_path, "--target-size", "40", "--best-effort", *MODEL)
    assert accepted.exit_code == 0
    assert out.exists()


@pytest.mark.parametrize(
    "options",
    [
        ["-q", "50", "--target-bpp", "1"],
        ["--target-bpp", "1", "--target-psnr", "30"],
        ["--target-size", "12 parsecs"],
        ["--target-psnr", "-3"],
        ["--effort", "10"],
    ],
)
def test_options_that_exclude_each_other_or_make_no_sense_are_usage_errors(
    photo_path: Path, options: list[str]
) -> None:
    result = run("compress", photo_path, *options, *MODEL)
    assert result.exit_code == 2
    assert not photo_path.with_suffix(".cae").exists()
