"""Compress every image file in folders, decompress it, and count what is kept, named, refused.

python bench/real_files.py FOLDER... [--weights WEIGHTS] > real_files.json

Files that are no image are passed over. An image is accepted, or refused with a reason. What comes
back from an accepted one, as PNG, must have its size, and byte for byte the metadata that reading
found. exiftool is the witness: a field that it sees in the source and not in the PNG, of a group
that has no name among what is not stored, is a silent loss. WEIGHTS may be any model; small ones
are faster.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path

from PIL import Image

from caecodec.codec.codec import Codec
from caecodec.errors import CodecError
from caecodec.image.image_files import read_image
from caecodec.image.saving import save_image
from caecodec.weights.storage import find_weights

MAX_PIXELS = 16_000_000
METADATA = ("icc_profile", "exif", "xmp")
NAMES = {
    "IPTC": ("IPTC", "after the image"),
    "Photoshop": ("Photoshop", "IPTC"),
    "PhotoMechanic": ("Photoshop", "after the image"),
    "Ducky": ("save options",),
    "MPF": ("more picture", "another picture", "gain map"),
    **dict.fromkeys(("MakerNotes", "APP12", "APP13", "Meta", "PrintIM"), ("segment",)),
    "XML": ("segment", "XML"),
    "GeoTiff": ("GeoTIFF",),
    "PhotoCD": ("PCD",),
    "EXIF": ("GeoTIFF", "sub-IFDs", "exif"),
    "XMP": ("xmp",),
    **dict.fromkeys(("AFCP", "CanonVRD", "FotoStation", "MIE"), ("after the image",)),
}
"""exiftool's group -> what accounts for it among the names of what is not stored."""
STRUCTURE = {
    *("SourceFile", "File", "ExifTool", "JFIF", "Composite", "PNG", "GIF", "QuickTime", "RIFF"),
    *("APP14", "Jpeg2000"),
}
STRUCTURAL_FIELDS = re.compile(
    "(Sub|OldSub)fileType|Image(Width|Height|Size)|BitsPerSample|Compression|Photometric.*|Strip.*"
    "|Tile.*|SamplesPerPixel|RowsPerStrip|PlanarConfiguration|Predictor|ColorMap|SampleFormat"
    "|ExtraSamples|FillOrder|T[46]Options|InkSet|JPEG.*|YCbCr.*|Orientation|ReferenceBlackWhite"
    "|(Thumbnail|Preview|OtherImage).*|Free.*|PageNumber|WhitePoint|PrimaryChromaticities|HasExtendedXMP|HalftoneHints|M(in|ax)SampleValue|ExifByteOrder|.*Padding"
)
"""What describes a TIFF file's own layout; Pillow turns TIFF images upright."""


def reason_of(error: Exception) -> str:
    """Return an error's message without what differs between files."""
    text = re.sub(r"(cannot read )\S+(?= is|:)|\S+ is too large", "...", str(error).splitlines()[0])
    return re.sub(r"\d[\d,.]*", "N", text)[:90]


def fields_of(places: list[str]) -> dict[str, dict[str, set[str]]]:
    """Return path -> group -> names of the fields that exiftool sees."""
    command = ["exiftool", "-j", "-G0", "-a", "-q", "-@", "-"]
    run = subprocess.run(  # noqa: S603 - a fixed command
        command, input="\n".join(places).encode(), capture_output=True, check=False
    )
    found: dict[str, dict[str, set[str]]] = {}
    for row in json.loads(run.stdout or b"[]"):
        groups = found.setdefault(row["SourceFile"], {})
        for key in row:
            group, _, name = key.partition(":")
            if group not in STRUCTURE and not STRUCTURAL_FIELDS.fullmatch(name):
                groups.setdefault(group, set()).add(name)
    return found


def silent_losses(
    source: dict[str, set[str]], back: dict[str, set[str]], left: tuple[str, ...]
) -> list[str]:
    """Return the fields of a source that are neither in what came back nor named."""
    named = " ".join(left)
    return [
        f"{group}:{name}"
        for group, names in sorted(source.items())
        for name in sorted(names - back.get(group, set()))
        if not any(word in named for word in NAMES.get(group, (group,)))
    ]


def there_and_back(codec: Codec, image: Image.Image, target: Path) -> tuple[str, list[str]]:
    """Write what comes back from a file; return what is wrong with it, and what PNG cannot hold."""
    back = codec.decompress(codec.compress(image, effort=1))
    with target.open("wb") as file:
        dropped = save_image(back, file, "PNG")
    if back.size != image.size:
        return f"size {back.size}, was {image.size}", dropped
    changed = [name for name in METADATA if back.info.get(name) != image.info.get(name)]
    return " and ".join(f"{name} changed" for name in changed), dropped


class Tally:
    """What became of the files so far.

    Attributes:
        kinds: suffix -> accepted, refused, kept (some metadata), named (something as not stored).
        refused: reason -> files.
        named: what is not stored -> files.
        written: path -> the PNG that came back, and what was named.
        look: path -> what is wrong.
    """

    def __init__(self, codec: Codec, folder: Path) -> None:
        self._codec, self._folder = codec, folder
        self.kinds: dict[str, Counter[str]] = {}
        self.refused: Counter[str] = Counter()
        self.named: Counter[str] = Counter()
        self.written: dict[str, tuple[str, tuple[str, ...]]] = {}
        self.look: dict[str, str] = {}

    def add(self, path: Path) -> None:
        """Read a file, and if it is an image, send it there and back."""
        try:
            image, left = read_image(io.BytesIO(path.read_bytes()), path.name)
        except CodecError as error:
            if "not an image" not in str(error):
                self.refused[reason_of(error)] += 1
                self.kinds.setdefault(path.suffix.lower(), Counter())["refused"] += 1
            return
        is_kept = any(map(image.info.get, METADATA))
        self.kinds.setdefault(path.suffix.lower(), Counter()).update(
            accepted=1, kept=int(is_kept), named=int(bool(left))
        )
        self.named.update(re.sub(r"\d[\d,]*|\(.*\)", "N", name) for name in left)
        if image.width * image.height > MAX_PIXELS:
            return
        target = self._folder / f"{len(self.written)}.png"
        try:
            wrong, dropped = there_and_back(self._codec, image, target)
        except CodecError as error:
            wrong, dropped = str(error), []
        self.written[str(path)] = (str(target), (*left, *dropped))
        if wrong:
            self.look[str(path)] = wrong

    def call_the_witness(self) -> None:
        """Note every field that exiftool misses in what came back."""
        sources = fields_of(list(self.written))
        returned = fields_of([target for target, _ in self.written.values()])
        for path, (target, left) in self.written.items():
            if lost := silent_losses(sources.get(path, {}), returned.get(target, {}), left):
                self.look[path] = f"silent: {', '.join(lost)}"


def main() -> None:
    """Print counts, and every file that needs a look, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--weights", default="psnr", help="weights file or model")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", module="PIL")
    with tempfile.TemporaryDirectory() as folder:
        tally = Tally(Codec(find_weights(arguments.weights)), Path(folder))
        for path in sorted(path for folder in arguments.folders for path in folder.rglob("*")):
            if path.is_file():
                tally.add(path)
        tally.call_the_witness()
    report = {
        "total": dict(sum(tally.kinds.values(), Counter())),
        "compared by exiftool": len(tally.written),
        "suffixes": {kind: dict(row) for kind, row in sorted(tally.kinds.items())},
        "refused": dict(tally.refused.most_common()),
        "named": dict(tally.named.most_common()),
        "look": tally.look,
    }
    json.dump(report, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
