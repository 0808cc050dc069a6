"""The models behind the benchmark's codecs; importing this loads torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from caecodec.benchmark.codecs import FIXED_MODELS, ImageCodec, is_cae, make_codecs
from caecodec.codec.codec import shared_codec


def load_codecs(
    names: Iterable[str], model: str, qualities: Sequence[float] | None = None
) -> tuple[dict[str, str], list[ImageCodec]]:
    """Return the digest of the model behind each name that has one, and the codecs.

    Args:
        names: as for `make_codecs`.
        model: name or path of the model behind "cae" and its efforts.
        qualities: as for `make_codecs`.

    Raises:
        ConfigError, ModelError: as `make_codecs` and `Codec`.
    """
    names = list(names)
    models = {name: shared_codec(FIXED_MODELS.get(name, model)) for name in names if is_cae(name)}
    digests = {name: codec.digest.hex() for name, codec in models.items()}
    return digests, make_codecs(names, models=models, qualities=qualities)
