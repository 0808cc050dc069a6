"""What mkdocs needs to know of this repository.

Pages link as the repository is laid out, so links work wherever it is browsed. Here, files outside
docs/ that pages link to join the site, and links become those of the site. The page that shows
`.cae` files joins it as well.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from cli_reference import reference
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from caecodec.view import make_page, models_for

VIEWER = "view.html"
"""The page that `caecodec view` opens, with the shipped models inside."""
ROOT = Path(__file__).parent.parent
LINK = re.compile(r"\[([^\]]*)\]\(([^)\s#:]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what pages link to outside docs/, and what these pages link to."""
    pages = [_repository_path(file) for file in files.documentation_pages()]
    for page in pages:
        for target in _targets(page):
            uri = _site_uri(target)
            if (ROOT / target).is_file() and files.get_file_from_path(uri) is None:
                files.append(File.generated(config, uri, abs_src_path=str(ROOT / target)))
                pages += [target] if target.endswith(".md") else []
    files.append(File.generated(config, VIEWER, content=make_page(models_for(None))))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links into those of the site, and write the reference of the commands."""
    del config, files
    path = _repository_path(page.file)
    here = posixpath.dirname(page.file.src_uri)

    def to_site(match: re.Match[str]) -> str:
        target = _target(path, match[2])
        if not (ROOT / target).exists():
            return match[0]  # mkdocs will say so
        if (ROOT / target).is_dir():
            return match[1]  # a site has no page of a folder
        return f"[{match[1]}]({posixpath.relpath(_site_uri(target), here)}{match[3] or ''})"

    return LINK.sub(to_site, markdown).replace("<!-- commands -->", reference())


def _targets(page: str) -> Iterator[str]:
    for match in LINK.finditer((ROOT / page).read_text(encoding="utf-8")):
        yield _target(page, match[2])


def _target(page: str, link: str) -> str:
    """Return the path in the repository that a link of a page means."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), link))


def _site_uri(path: str) -> str:
    """Return where the site has a file of the repository."""
    return path.removeprefix("docs/")


def _repository_path(file: File) -> str:
    return Path(str(file.abs_src_path)).relative_to(ROOT).as_posix()
