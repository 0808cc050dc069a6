"""The documentation: commands, links, tests and code that it names are there, and it builds."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from make_golden import TOY
from PIL import Image

from caecodec.cli.app import app
from caecodec.inspection import info

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
REFERENCE = runpy.run_path(str(DOCS / "cli_reference.py"))["reference"]()
OPTION = re.compile(r"(?<=[\s/])--?[a-zA-Z][\w-]*")
GOLDEN = ROOT / "tests" / "golden"

each_page = pytest.mark.parametrize(
    "page", PAGES, ids=lambda page: page.relative_to(DOCS).as_posix()
)


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def block_of(page: str, language: str) -> str:
    (block,) = blocks((DOCS / page).read_text(encoding="utf-8"), language)
    return block


def names_of(command: str) -> set[str]:
    """Return how the options of a command are written."""
    parameters = COMMANDS[command].params
    names = {name for one in parameters for name in (*one.opts, *one.secondary_opts)}
    return {name for name in names if name.startswith("-")}


def calls(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the command and the options of each call of caecodec in a text's console blocks."""
    for line in "\n".join(blocks(text, "console")).splitlines():
        words = re.split(r"\s#\s", line)[0]
        for name, arguments in re.findall(r"\bcaecodec (\w+)([^|<>&;]*)", words):
            yield name, OPTION.findall(arguments)


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the guides' code names."""
    (tmp_path / "compressed").mkdir()
    for name in ("photo.cae", "compressed/photo.cae"):
        shutil.copy(GOLDEN / "shipped" / "psnr-metadata.cae", tmp_path / name)
    shutil.copy(TOY, tmp_path / "mine.safetensors")
    Image.new("RGB", (40, 30), "teal").save(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@each_page
def test_every_command_and_option_that_a_page_names_exists(page: Path) -> None:
    for name, options in calls(page.read_text(encoding="utf-8")):
        assert set(options) <= names_of(name), name


def test_every_command_and_option_that_help_has_as_an_example_exists() -> None:
    found = list(calls(REFERENCE))
    assert {name for name, _ in found} >= set(COMMANDS) - {"verify", "info", "export"}
    for name, options in found:
        assert set(options) <= names_of(name), name


def test_the_reference_has_every_option_of_every_command() -> None:
    sections = re.split(r"^## ", REFERENCE, flags=re.MULTILINE)[1:]
    assert [section.split("\n", 1)[0] for section in sections] == list(COMMANDS)
    for name, section in zip(COMMANDS, sections, strict=True):
        rows = re.findall(r"^\| `([^`]*)`", section, re.MULTILINE)
        assert {option for row in rows for option in OPTION.findall(f" {row}")} == names_of(name)


@each_page
def test_every_file_that_a_page_links_to_exists(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_each_of_the_fifteen_wishes_is_answered_by_tests_that_exist() -> None:
    table = (DOCS / "wishes.md").read_text(encoding="utf-8")
    rows = [line for line in table.splitlines() if re.match(r"\| \d", line)]
    assert [row.split("|")[1].strip() for row in rows] == [str(n) for n in range(1, 16)]
    for row in rows:
        tests = re.findall(r"`(test_\w+\.py)::(\w+)`", row)
        assert tests, row
        for file, name in tests:
            source = (ROOT / "tests" / file).read_text(encoding="utf-8")
            assert re.search(rf"^def {name}\(", source, re.MULTILINE), name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "printed"),
    [
        ("guides/photo-library.md", r"\(\d+, \d+\) \{'(exif|icc_profile)', '(exif|icc_profile)'\}"),
        ("guides/train-your-own.md", r"\(40, 30\) None"),
        ("guides/another-language.md", r"iccp 9 bytes\nexif \d+ bytes\nxmp  \d+ bytes"),
    ],
)
@pytest.mark.usefixtures("workplace")
def test_the_python_of_the_guides_works(page: str, printed: str) -> None:
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(block_of(page, "python"), page, "exec"), {})
    assert re.fullmatch(printed, said.getvalue().strip())


@pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler")
def test_the_c_of_the_guide_reads_files_and_refuses_damaged_ones(workplace: Path) -> None:
    source = workplace / "cae_info.c"
    source.write_text(block_of("guides/another-language.md", "c"))
    compiler = ["cc", "-Wall", "-Wextra", "-Werror", "-o", "cae_info", source]
    subprocess.run(compiler, check=True, capture_output=True)
    program = workplace / "cae_info"
    for path in (GOLDEN / "decode").glob("*.cae"):
        said = subprocess.run([program, path], check=True, capture_output=True, text=True).stdout
        facts = info(path)
        assert said.startswith(f"{facts.width} x {facts.height}, mode ")
        assert f"quality {facts.quality:g}, model {facts.digest}\n" in said
        found = {line[:4] for line in said.splitlines()[1:]}
        assert found == {kind.ljust(4) for kind in facts.box_bytes} - {"header"}
    data = (workplace / "photo.cae").read_bytes()
    for damaged in (data[:-1], data[:-5] + b"????" + data[-1:], b"\x89PNG" + data[4:]):
        (workplace / "damaged.cae").write_bytes(damaged)
        refused = subprocess.run([program, "damaged.cae"], check=False, capture_output=True)
        assert refused.returncode == 1
        assert refused.stderr.startswith(b"error: ")


@pytest.mark.site
@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="extra docs: no mkdocs")
def test_the_site_builds_without_warnings_and_needs_no_network(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", tmp_path]
    done = subprocess.run(
        command,
        cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not re.search("WARNING|contains a link", done.stdout + done.stderr)
    pages = {
        path.relative_to(tmp_path).as_posix(): path.read_text(encoding="utf-8")
        for path in tmp_path.rglob("*.html")
    }
    assert {"FORMAT.html", "SECURITY.html", "CHANGELOG.html", "reference/api.html"} <= set(pages)
    assert "--output-dir-mirror" in pages["reference/cli.html"]
    assert "num_bytes" in pages["reference/api.html"]
    for name, text in pages.items():
        assert re.findall(r"<(?:script|img|link|iframe)[^>]*https?:", text) == [], name


def test_tables_hold_the_figures_of_the_results() -> None:
    check = [sys.executable, DOCS / "make_tables.py", "--check"]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
