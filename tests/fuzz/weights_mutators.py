"""Ways to change a weights file, shared by the tests and the fuzz targets."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

from mutators import change_bytes

_SIZE_BYTES = 8
_TYPES = ("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F4", "I16", "U16", "F16", "BF16",
          "I32", "U32", "F32", "C64", "F64", "I64", "U64", "Q7")  # fmt: skip
"""All types of safetensors, and one that is none."""
_VALUES: tuple[Any, ...] = (
    *(0, -1, 1, 2, 3, 4, 8, 24, 32, 64, 511, 4096, 4097, 2**31, 2**63, 10**400, 0.5, 1e308),
    *(float("nan"), float("inf"), True, False, None, "", "many", "classic", "main", "gray", "max"),
    *([], [1], [12, 8], [4096] * 6, ["a"], [[1]], {}, {"channels": 3}),
)
"""Values for the fields of a configuration, legal here and hostile there."""
_NAMES = ("surprise", "", "a\nb", "\x1b[31m", "é", "tables.surprise", "scale_head.9.weight",
          "tables.counts", "tables.lengths", "scale_head.shifts", "latent_std")  # fmt: skip
_SPECIALS = (b"\x00\x7e", b"\x00\x7c", b"\x00\xfc", b"\xff\x7b", b"\xff\xff", b"\x00\x80",
             b"\x00\x00", b"\x01\x00", b"\xff\x7f")  # fmt: skip
"""Pairs of bytes: as float16 not a number, infinite, largest; as integers extremes, 0 and 1."""

Header = dict[str, Any]


def change_weights(data: bytes, random: Random) -> bytes:
    """Change the bytes, the header or the values of a weights file."""
    size = int.from_bytes(data[:_SIZE_BYTES], "little")
    text, values = data[_SIZE_BYTES : _SIZE_BYTES + size], data[_SIZE_BYTES + size :]
    way = random.randrange(8)
    if way == 0:
        return change_bytes(data, random)
    if way == 1:  # the text of the header, its length right
        return _framed(change_bytes(text, random), values)
    try:
        header = json.loads(text)
        if way == 2:
            return _framed(text, _changed_values(header, values, random))
        for _ in range(random.choice((1, 1, 1, 2, 3))):
            edit = random.choice(_EDITS)
            edit(header, random)
        return _framed(json.dumps(header).encode("utf-8", "surrogateescape"), values)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        return change_bytes(data, random)  # not the header of a weights file


def _framed(text: bytes, values: bytes) -> bytes:
    return len(text).to_bytes(_SIZE_BYTES, "little") + text + values


def _changed_values(header: Header, values: bytes, random: Random) -> bytes:
    """Put hostile values into a tensor, into all of it or a part."""
    start, end = header[_tensor(header, random)]["data_offsets"]
    own = values[start:end]
    if random.randrange(2):
        return values[:start] + random.choice(_SPECIALS) * (len(own) // 2) + values[end:]
    at = 2 * random.randrange(len(own) // 2)
    own = own[:at] + random.choice((*_SPECIALS, random.randbytes(2))) + own[at + 2 :]
    return values[:start] + own + values[end:]


def _tensor(header: Header, random: Random) -> str:
    """Return the name of a tensor, often of one that decides bits."""
    names = sorted(set(header) - {"__metadata__"})
    bits = [name for name in names if name.startswith(("tables.", "scale_head."))]
    return random.choice(random.choice((names, bits or names)))


def _edit_type(header: Header, random: Random) -> None:
    header[_tensor(header, random)]["dtype"] = random.choice(_TYPES)


def _edit_shape(header: Header, random: Random) -> None:
    tensor = header[_tensor(header, random)]
    shape = tensor["shape"]
    numbers = (0, 1, 2, 2**16, 2**32, 2**63, 2**64, -1, 0.5, None, "3")
    at = random.randrange(len(shape))
    tensor["shape"] = random.choice(
        (
            shape[::-1],
            [*shape, 1],
            shape[:-1],
            [],
            [2 * shape[0], *shape[1:]],
            [*shape[:at], random.choice(numbers), *shape[at + 1 :]],
            [1] * random.choice((3, 40, 4000)) + shape,
            random.choice(_VALUES),
        )
    )


def _edit_offsets(header: Header, random: Random) -> None:
    tensor, other = header[_tensor(header, random)], header[_tensor(header, random)]
    start, end = tensor["data_offsets"]
    tensor["data_offsets"] = random.choice(
        (
            other["data_offsets"],
            [end, start],
            [start + 2, end],
            [start, end + 2],
            [start, start],
            [0, 2**64 - 1],
            [start, 2**70],
            [-1, end],
            [start],
            random.choice(_VALUES),
        )
    )


def _cut_tensor(header: Header, random: Random) -> None:
    """Make a tensor of another shape fit its bytes, as far as the header says."""
    tensor = header[_tensor(header, random)]
    tensor["shape"] = [_product(tensor["shape"])] if random.randrange(2) else [0]


def _product(shape: list[int]) -> int:
    total = 1
    for side in shape:
        total *= side
    return total


def _rename(header: Header, random: Random) -> None:
    name = _tensor(header, random)
    header[random.choice((*_NAMES, name + ".", name.split(".")[0]))] = header.pop(name)


def _drop(header: Header, random: Random) -> None:
    header.pop(_tensor(header, random))


def _add(header: Header, random: Random) -> None:
    """Add tensors that hold nothing, or the values of another."""
    for number in range(random.choice((1, 1, 2000))):
        entry = {"dtype": random.choice(_TYPES), "shape": [0], "data_offsets": [0, 0]}
        header[f"{random.choice(_NAMES)}{number or ''}"] = entry


def _edit_config(header: Header, random: Random) -> None:
    config = json.loads(header["__metadata__"]["config"])
    for _ in range(random.choice((1, 1, 2, 4))):
        field = random.choice((*sorted(config), "architecture", "colour", "pooling"))
        near = config.get(field)
        near = near + random.choice((-1, 1)) if isinstance(near, int) else near
        config[field] = random.choice((near, random.choice(_VALUES)))
    header["__metadata__"]["config"] = json.dumps(config)


def _edit_metadata(header: Header, random: Random) -> None:
    """Put other JSON, or none, into the metadata."""
    texts = (*map(json.dumps, _VALUES), "{", "[" * 100_000, '{"a": ' * 5000, "9" * 5000, "\0",
             '"\\ud800"', '[["channels", 24]]', '{"channels": 24, "channels": 25}')  # fmt: skip
    name = random.choice(("config", "config", "training", "format", "__metadata__", "surprise"))
    if name == "__metadata__":
        header[name] = random.choice(_VALUES)
    else:
        header["__metadata__"][name] = random.choice((*texts, *_VALUES))


_EDITS: tuple[Callable[[Header, Random], None], ...] = (
    _edit_type, _edit_shape, _edit_offsets, _cut_tensor, _rename, _drop, _add,
    _edit_config, _edit_config, _edit_metadata,
)  # fmt: skip
