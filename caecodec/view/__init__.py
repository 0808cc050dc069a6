"""A page that shows `.cae` files in a browser, whole in itself: decoder, weights and image inside.

The page is made from the decoder in web/ by web/build.sh.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from pathlib import Path

from caecodec.config import Tune
from caecodec.errors import UnknownModelError
from caecodec.format.container import unpack_header
from caecodec.weights import model_name
from caecodec.weights.storage import Weights, find_weights
from caecodec.weights.web import web_weights

_PAGE = Path(__file__).parent / "page.html"


def make_page(models: Iterable[Weights], name: str | None = None, data: bytes = b"") -> str:
    """Return a page that shows a file, and files of the same models that are dropped on it.

    Args:
        models: whose files it can show.
        name: of the file that it shows at once, or None for none.
        data: the file.

    Raises:
        ModelError: a model that is not exact.
    """
    weights = {model.digest.hex(): _base64(web_weights(model)) for model in models}
    file = None if name is None else {"name": name, "data": _base64(data)}
    text = _PAGE.read_text(encoding="utf-8")
    return text.replace("@WEIGHTS@", _script(weights)).replace("@FILE@", _script(file))


def models_for(data: bytes | None, model: str | None = None) -> list[Weights]:
    """Return the model of a file, or the shipped ones that a page can show if there is no file.

    Args:
        data: the file.
        model: name or path of the model that made it, if it is not shipped.

    Raises:
        FormatError: it is no `.cae` file.
        UnknownModelError: another model made it.
        ModelError: the weights are not valid.
    """
    if data is None:
        return [find_weights(name) for name in ([model] if model else Tune)]
    digest = unpack_header(data).digest
    weights = find_weights(model or _name_of(digest))
    if weights.digest != digest:
        raise UnknownModelError(
            f"the file needs the model {digest.hex()}, {model} is {weights.digest.hex()}"
        )
    return [weights]


def _name_of(digest: bytes) -> str:
    name = model_name(digest)
    if name is None:
        raise UnknownModelError(
            f"the file needs the model {digest.hex()}, which is not shipped: name it by --model"
        )
    return name


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _script(value: object) -> str:
    """Return JSON that cannot end the element that holds it."""
    return json.dumps(value).replace("<", "\\u003c")
