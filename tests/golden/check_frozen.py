"""Refuse a changed or missing golden file of a release from 1.0.0 on; see README.md beside this.

python tests/golden/check_frozen.py
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

FROZEN = [
    *(f"tests/golden/{name}" for name in ("toy.safetensors", "decode", "shipped", "errors")),
    "tests/vectors/*.json",
]
LISTS = re.compile(r"tests/(golden/errors/expected|vectors/\w+)\.json")
"""Files with a case a line: they may grow."""
RELEASE = re.compile(r"v[1-9]\d*\.\d+\.\d+")


def git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout


def newest_release(root: Path) -> str | None:
    """Return the tag of the newest release that HEAD contains."""
    tags = git(root, "tag", "--merged", "HEAD", "--sort=-version:refname").splitlines()
    return next(filter(RELEASE.fullmatch, tags), None)


def broken_files(root: Path, release: str) -> list[str]:
    """Return the released files that are missing from the working tree or have other content."""
    options = ["--name-only", "--no-renames", "--diff-filter=a"]
    names = git(root, "diff", *options, release, "--", *FROZEN).splitlines()
    return [name for name in names if not has_only_grown(root, release, name)]


def has_only_grown(root: Path, release: str, name: str) -> bool:
    path = root / name
    if not LISTS.fullmatch(name) or not path.exists():
        return False
    released, present = git(root, "show", f"{release}:{name}"), path.read_text(encoding="utf-8")
    old, new = ({line.rstrip(",") for line in text.splitlines()} for text in (released, present))
    return old <= new


def main(root: Path = Path(__file__).parents[2]) -> str | None:
    """Return the message of a failure."""
    release = newest_release(root)
    print(f"golden files are frozen as of {release or '1.0.0, which is not released yet'}")
    broken = broken_files(root, release) if release else []
    lines = [f"{name} was changed or removed: git checkout {release} -- {name}" for name in broken]
    return "\n".join(lines) or None


if __name__ == "__main__":
    sys.exit(main())
