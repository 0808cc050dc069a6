"""What these tests share."""

from collections.abc import Iterator

import pytest
import torch
from mutators import GOLDEN, SIZE_LIMIT

from caecodec.codec.codec import Codec


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Hundreds of tiny images: starting threads would take longer than the work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def limited() -> Codec:
    """The toy model for files whose headers may claim anything."""
    return Codec(GOLDEN / "toy.safetensors", size_limit=SIZE_LIMIT)
