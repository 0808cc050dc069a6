"""ICC profiles of the colours that PNG, AVIF and BMP files state in numbers. ICC.1:2022, H.273."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Sequence

import numpy as np

Point = tuple[float, float]
"""x and y of a colour in the CIE 1931 diagram."""

_D65 = (0.3127, 0.3290)
_C = (0.310, 0.316)
_D50_XYZ = np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array([
    [0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296],
])  # fmt: skip
_SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
_SRGB_GAMMA = 2.2
_TOLERANCE = 0.002
"""Of x, y and 1 / gamma: PNG states them to 5 decimals, and encoders round them."""


@dataclasses.dataclass(frozen=True)
class Colors:
    """What the levels of an image mean.

    Attributes:
        white, red, green, blue: the primaries.
        gamma: exponent from a level to light, or None for the curve of sRGB.
    """

    white: Point = _D65
    red: Point = (0.64, 0.33)
    green: Point = (0.30, 0.60)
    blue: Point = (0.15, 0.06)
    gamma: float | None = None

    @property
    def is_srgb(self) -> bool:
        """Whether they are those of sRGB, or so close that software takes them for it."""
        points = np.abs(np.subtract(self.points, Colors().points)).max()
        inverse = 1 / _SRGB_GAMMA if self.gamma is None else 1 / self.gamma
        return bool(points <= _TOLERANCE and abs(inverse - 1 / _SRGB_GAMMA) <= _TOLERANCE)

    @property
    def points(self) -> tuple[Point, Point, Point, Point]:
        """White, red, green and blue."""
        return self.white, self.red, self.green, self.blue


_PRIMARIES = {
    1: Colors(),
    4: Colors(_C, (0.67, 0.33), (0.21, 0.71), (0.14, 0.08)),
    5: Colors(_D65, (0.64, 0.33), (0.29, 0.60), (0.15, 0.06)),
    6: Colors(_D65, (0.630, 0.340), (0.310, 0.595), (0.155, 0.070)),
    7: Colors(_D65, (0.630, 0.340), (0.310, 0.595), (0.155, 0.070)),
    8: Colors(_C, (0.681, 0.319), (0.243, 0.692), (0.145, 0.049)),
    9: Colors(_D65, (0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    11: Colors((0.314, 0.351), (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    12: Colors(_D65, (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    22: Colors(_D65, (0.630, 0.340), (0.295, 0.605), (0.155, 0.077)),
}
"""H.273, table 2."""
_UNSPECIFIED = 2
_GAMMAS = {
    **dict.fromkeys((1, 2, 6, 13, 14, 15)),  # the video curves as browsers show them: as sRGB
    4: 2.2,
    5: 2.8,
    8: 1.0,
}
"""H.273, table 3: transfer characteristics -> gamma."""


def coded_colors(primaries: int, transfer: int) -> Colors | None:
    """Return the colours of two code points of H.273, or None if an ICC profile cannot hold them.

    Those are the curves of HDR, PQ and HLG, and rare ones.
    """
    if primaries == _UNSPECIFIED:
        primaries = 1
    if primaries not in _PRIMARIES or transfer not in _GAMMAS:
        return None
    return dataclasses.replace(_PRIMARIES[primaries], gamma=_GAMMAS[transfer])


def icc_profile(colors: Colors, *, gray: bool) -> bytes:
    """Return a version 4 display profile, of one channel or of R, G and B.

    Raises:
        ValueError: no colours have such primaries, or such a gamma.
    """
    curve = _curve(colors.gamma)
    tags = {
        b"desc": _text("caecodec: colours stated by the image file"),
        b"cprt": _text("no copyright, use freely"),
        b"wtpt": _xyz(_D50_XYZ),
    }
    if gray:
        tags[b"kTRC"] = curve
    else:
        adaptation = _to_d50(_xyz_of(colors.white))
        matrix = adaptation @ _to_xyz(colors)
        tags[b"chad"] = b"sf32" + bytes(4) + _fixed(adaptation.ravel())
        tags |= {
            name: _xyz(column)
            for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), matrix.T, strict=True)
        }
        tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    return _profile(b"GRAY" if gray else b"RGB ", tags)


def _to_xyz(colors: Colors) -> np.ndarray:
    """Return the matrix from linear R, G and B to X, Y and Z, for a white of Y = 1."""
    primaries = np.stack([_xyz_of(point) for point in (colors.red, colors.green, colors.blue)], 1)
    try:
        return primaries * np.linalg.solve(primaries, _xyz_of(colors.white))
    except np.linalg.LinAlgError as error:
        raise ValueError("the primaries are on one line") from error


def _xyz_of(point: Point) -> np.ndarray:
    x, y = point
    if not 0 < y <= 1:
        raise ValueError(f"a colour of y = {y}")
    return np.array([x / y, 1.0, (1 - x - y) / y])


def _to_d50(white: np.ndarray) -> np.ndarray:
    """Return Bradford's matrix from colours under a white to those under D50."""
    scale = (_BRADFORD @ _D50_XYZ) / (_BRADFORD @ white)
    return np.linalg.inv(_BRADFORD) @ (scale[:, None] * _BRADFORD)


def _curve(gamma: float | None) -> bytes:
    values, kind = (_SRGB_CURVE, 3) if gamma is None else ((gamma,), 0)
    return b"para" + bytes(4) + struct.pack(">HH", kind, 0) + _fixed(values)


def _text(text: str) -> bytes:
    encoded = text.encode("utf-16-be")
    head = struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(encoded), 28)
    return b"mluc" + bytes(4) + head + encoded


def _xyz(values: np.ndarray) -> bytes:
    return b"XYZ " + bytes(4) + _fixed(values)


def _fixed(values: Sequence[float] | np.ndarray) -> bytes:
    """Return s15Fixed16Numbers."""
    numbers = [round(float(value) * 2**16) for value in values]
    try:
        return struct.pack(f">{len(numbers)}i", *numbers)
    except struct.error as error:
        raise ValueError(f"{values} is beyond what a profile can hold") from error


def _profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    table, content = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    places: dict[bytes, int] = {}  # equal curves are stored once
    for name, value in tags.items():
        if value not in places:
            places[value] = start + len(content)
            content += value + bytes(-len(value) % 4)
        table += name + struct.pack(">II", places[value], len(value))
    head = struct.pack(
        ">I4sI4s4s4s", start + len(content), b"", 0x04400000, b"mntr", space, b"XYZ "
    )
    head += struct.pack(">6H4s", 2026, 1, 1, 0, 0, 0, b"acsp") + bytes(28) + _fixed(_D50_XYZ)
    return head + bytes(128 - len(head)) + table + content
