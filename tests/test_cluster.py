"""A folder of images on a local Ray of two workers, and the manifest of it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from make_golden import TOY, synthetic_image
from PIL import Image

from caecodec.codec.codec import Codec
from caecodec.errors import CodecError, ConfigError

ray = pytest.importorskip("ray")
parquet = pytest.importorskip("pyarrow.parquet")

from caecodec.cluster import ray_folder  # noqa: E402 - after the extra is known to be there
from caecodec.cluster.manifest import COLUMNS, Manifest, Status  # noqa: E402
from caecodec.cluster.ray_folder import Summary, compress_folder  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:::ray"),  # of what it deprecates and uses itself
]

EXAMPLE = Path(__file__).parent.parent / "examples" / "compress_on_ray.py"
NAMES = ["a.png", "b.jpg", "c.webp", "sub/d.PNG", "sub/deep/e.bmp"]


class Mortal(ray_folder._Worker):
    """A worker that one image kills, as too little memory would."""

    def _compress(self, row: dict[str, Any]) -> dict[str, Any]:
        if row["path"].endswith("c.webp"):
            os._exit(1)
        return super()._compress(row)


class FirstRun(NamedTuple):
    photos: Path
    out: Path
    address: str
    summary: Summary
    rows: dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FirstRun]:
    """Compress a folder on a local Ray of two workers that asks nothing of a network."""
    photos = make_photos(tmp_path_factory.mktemp("scale") / "photos")
    Image.open(photos / "a.png").save(photos / "a.tiff")
    out = photos.with_name("out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setattr(ray_folder, "_Worker", Mortal)
        patch.setattr(ray_folder, "BLOCK_SIZE", 1)
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # Mortal is sent whole
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
        ray.data.DataContext.get_current().enable_progress_bars = False
        address = ray.get_runtime_context().gcs_address
        summary = compress_folder(photos, out, quality=60, model=TOY)
        yield FirstRun(photos, out, address, summary, table(out))
        ray.shutdown()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Return a folder of five images, one that is none, and a text, in three levels."""
    return make_photos(tmp_path / "photos")


def make_photos(folder: Path) -> Path:
    (folder / "sub" / "deep").mkdir(parents=True)
    for number, name in enumerate(NAMES):
        Image.fromarray(synthetic_image(40 + number, 30, number)).save(folder / name)
    (folder / "sub" / "bad.png").write_bytes(b"no image")
    (folder / "notes.txt").write_text("not an image")
    return folder


def table(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the manifest by names of images."""
    rows = parquet.read_table(folder / "manifest.parquet").to_pylist()
    assert all(list(row) == list(COLUMNS) for row in rows)
    return {Path(row["path"]).name: row for row in rows}


def test_outputs_keep_the_tree_and_are_those_of_a_codec(first_run: FirstRun) -> None:
    codec = Codec(TOY)
    for number, name in enumerate(NAMES):
        if name == "c.webp":
            continue
        row = first_run.rows[Path(name).name]
        data = Path(row["output"]).read_bytes()
        assert row["path"] == (first_run.photos / name).as_posix()
        assert row["output"] == (first_run.out / name).with_suffix(".cae").as_posix()
        assert data == codec.compress(Image.open(first_run.photos / name), quality=60)
        assert (row["status"], row["width"], row["height"]) == ("done", 40 + number, 30)
        assert (row["bytes"], row["bpp"]) == (len(data), 8 * len(data) / (30 * (40 + number)))
        assert (row["quality"], row["effort"], row["digest"]) == (60, 3, codec.digest.hex())
        assert row["seconds"] > 0
        assert row["error"] is None


@pytest.mark.parametrize(
    ("name", "words"),
    [("bad.png", "not an image"), ("c.webp", "the worker died"), ("a.tiff", "photos/a.png")],
)  # the last has the output of another image
def test_what_fails_is_a_row_and_stops_nothing(first_run: FirstRun, name: str, words: str) -> None:
    row = first_run.rows[name]
    assert (row["status"], row["bytes"]) == ("failed", None)
    assert words in row["error"]
    manifest = (first_run.out / "manifest.parquet").as_posix()
    assert first_run.summary == Summary(manifest, done=4, failed=3, skipped=0)


def test_the_next_run_does_what_failed_or_is_gone(first_run: FirstRun) -> None:
    photos, out = first_run.photos, first_run.out
    (out / "a.cae").unlink()
    (photos / "a.tiff").unlink()
    kept = (out / "b.cae").stat().st_mtime_ns
    Image.fromarray(synthetic_image(9, 9, 9)).save(photos / "sub" / "bad.png")
    again = subprocess.run(
        [sys.executable, EXAMPLE, photos, out.as_uri(), "--quality", "60", "--model", TOY],
        capture_output=True, text=True, check=False,
        env=os.environ | {"RAY_ADDRESS": first_run.address},
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert again.stdout == f"3 done, 3 skipped, 0 failed: {out.as_uri()}/manifest.parquet\n"
    assert (out / "b.cae").stat().st_mtime_ns == kept
    rows = table(out)
    done = {name for name, row in rows.items() if row["status"] == "done"}
    assert done == {"a.png", "bad.png", "c.webp"}
    assert rows["b.jpg"]["bytes"] == first_run.rows["b.jpg"]["bytes"]


def refuse(pending: list[dict[str, Any]], *_: object) -> Iterator[list[dict[str, Any]]]:
    yield [row | {"status": Status.failed, "error": "no cluster"} for row in pending]


def test_what_a_run_did_before_it_was_cut_off_counts(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = Codec(TOY).weights
    out = photos.with_name("out")
    out.mkdir()
    facts = {"quality": 50.0, "effort": 3, "digest": weights.digest.hex(), "status": Status.done}
    manifest = Manifest(str(out))
    for name in ("sub/bad.png", *NAMES):  # one part each, as if the merge was never reached
        output = (out / name).with_suffix(".cae")
        output.parent.mkdir(parents=True, exist_ok=True)
        output.touch()
        manifest.append([{"path": str(photos / name), "output": str(output), **facts}])
    assert compress_folder(photos, out, model=TOY) == Summary(manifest.path, 0, 0, 6)
    assert len(table(out)) == 6
    assert not list((out / "manifest.parts").iterdir())

    monkeypatch.setattr(ray_folder, "_on_ray", refuse)
    assert compress_folder(photos, out, model=TOY).skipped == 6
    assert compress_folder(photos, out, model=TOY, quality=20).failed == 6


@pytest.mark.usefixtures("first_run")
def test_a_lossless_run_is_skipped_by_the_next_one_alone(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = photos.with_name("out")
    (photos / "c.webp").unlink()  # on which a Mortal dies
    assert compress_folder(photos, out, model=TOY, lossless=True).done == 4
    row = table(out)["a.png"]
    assert (row["quality"], row["effort"]) == (None, None)
    decoded = Codec(TOY).decompress(Path(row["output"]).read_bytes())
    assert np.array_equal(np.array(decoded), np.array(Image.open(photos / "a.png")))
    monkeypatch.setattr(ray_folder, "_on_ray", refuse)
    assert compress_folder(photos, out, model=TOY, lossless=True).skipped == 4
    assert compress_folder(photos, out, model=TOY, quality=100).failed == 5


@pytest.mark.parametrize(
    ("changed", "words"),
    [({"quality": 101}, "quality is 101"), ({"effort": 0}, "effort"),
     ({"quality": 100, "lossless": True}, "exclude each other"),
     ({"model": "none"}, "no model"), ({"source": "nowhere"}, "nowhere is not a folder")],
)  # fmt: skip
def test_wrong_settings_are_told_before_any_work(
    photos: Path, changed: dict[str, Any], words: str
) -> None:
    settings = {"source": photos, "destination": photos.with_name("out"), "model": TOY} | changed
    with pytest.raises(CodecError, match=words):
        compress_folder(**settings)
    assert not photos.with_name("out").exists()


def test_a_file_that_is_no_manifest_is_told(photos: Path) -> None:
    (photos / "manifest.parquet").write_bytes(b"not parquet")
    with pytest.raises(ConfigError, match=r"manifest.parquet is not a manifest"):
        compress_folder(photos, photos, model=TOY)


def test_a_missing_extra_is_named(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"caecodec\[ray\]"):
        compress_folder(photos, photos.with_name("out"), model=TOY)
