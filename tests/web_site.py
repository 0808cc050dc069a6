"""A site on this machine that serves the decoder of web/, for browsers of tests and benchmarks."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

ROOT = Path(__file__).parents[1]


class Handler(SimpleHTTPRequestHandler):
    """Serves web/, also as the guide has it, tests/, and everything else from a folder."""

    served: ClassVar[list[str]] = []

    def translate_path(self, path: str) -> str:
        """Return the file of an address."""
        self.served.append(path)
        path = path.replace("/caecodec/", "/web/src/")
        is_own = path.startswith(("/web/", "/tests/"))
        return str(ROOT / path[1:]) if is_own else super().translate_path(path)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serve a folder, and give the site's address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
