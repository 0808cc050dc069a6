"""The conformance vectors: caecodec and the independent reader agree with every one of them."""

from __future__ import annotations

import json
import runpy
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from constriction import stream
from numpy.typing import NDArray
from PIL import Image

from caecodec import errors
from caecodec.codec.codec import Codec
from caecodec.codec.decoder import Decompression
from caecodec.format.constants import Mode
from caecodec.format.container import METADATA_BOXES, Container, Header, Tile, unpack, unpack_header
from caecodec.format.entropy_coder import EntropyCoder
from caecodec.format.grid import Region, TileGrid
from caecodec.format.lossless import LosslessBlocks, unpack_blocks
from caecodec.format.tables import CODER_BITS, ESCAPE_BITS, CodingTables, coder_probabilities
from caecodec.image.lossless import mask_of
from caecodec.nn.exact import IntegerLayer, IntegerScaleHead
from caecodec.nn.exact_form import Form, out_step
from caecodec.nn.exact_layers import ExactConv2d, ExactSpaceConv2d
from caecodec.nn.layers import Conv2d, QualityConv2d, SpaceConv2d

TESTS = Path(__file__).parent
VECTORS = TESTS / "vectors"
EXAMPLES = TESTS.parent / "examples"
sys.path.append(str(EXAMPLES))
READER, PIXELS = (
    SimpleNamespace(**runpy.run_path(str(EXAMPLES / name)))
    for name in ("read_cae.py", "cae_pixels.py")
)
READER_REFUSES = ("BadMagicError", "UnsupportedVersionError", "ChecksumMismatchError")
"""What the independent reader checks of a header."""
FILES = ["headers", "boxes", "lossless", "grid", "tables", "payloads", "scale_head", "exact_layers"]

Vector = dict[str, Any]


def vectors(name: str) -> list[Vector]:
    """Return the vectors of a file."""
    return json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))


def each(name: str, *, refused: bool = False) -> pytest.MarkDecorator:
    """Parametrize with the vectors of a file that are refused, or with the others."""
    chosen = [vector for vector in vectors(name) if ("error" in vector) == refused]
    return pytest.mark.parametrize("vector", chosen, ids=lambda vector: vector["name"])


def refusal(vector: Vector) -> type[errors.CodecError]:
    return getattr(errors, vector["error"])


@each("headers")
def test_legal_headers_have_the_fields_of_the_vectors(vector: Vector) -> None:
    data, fields = bytes.fromhex(vector["hex"]), vector["fields"]
    expected = Header(
        Mode(fields["mode"]),
        fields["quality"],
        fields["width"],
        fields["height"],
        bytes.fromhex(fields["digest"]),
        2 ** fields["tile_log2"],
    )
    assert unpack_header(data) == expected
    assert expected.pack() == data
    found, *_ = READER.read_boxes(data)
    assert found.pop("tile") == 16 * 2 ** fields["tile_log2"]
    assert found.pop("units") == fields["quality"]
    assert found == {name: fields[name] for name in ("mode", "width", "height")}


@each("headers", refused=True)
def test_illegal_headers_are_refused_with_the_error_of_the_vectors(vector: Vector) -> None:
    data = bytes.fromhex(vector["hex"])
    with pytest.raises(errors.FormatError) as caught:
        unpack_header(data)
    assert type(caught.value) is refusal(vector)
    if vector["error"] in READER_REFUSES:
        with pytest.raises(ValueError, match=r"version 1|damaged"):
            READER.read_boxes(data)


@each("boxes")
def test_files_hold_what_the_vectors_say(vector: Vector) -> None:
    data = bytes.fromhex(vector["hex"])
    container = unpack(data)
    kinds = {name: kind.decode() for name, kind in METADATA_BOXES.items()}
    found = {kinds[name]: content.hex() for name, content in container.metadata.items()}
    assert found == vector["metadata"]
    assert (container.alpha.hex() if container.alpha else None) == vector["alpha"]
    tiles = [(tile.symbols_crc, payload_of(tile.payload)) for tile in container.tiles]
    assert tiles == [(tile["symbols_crc"], tile["payload"]) for tile in vector["tiles"]]
    _, contents, _ = READER.read_boxes(data)
    assert [payload_of(content) for content in contents] == [
        [tile["symbols_crc"], *tile["payload"]] for tile in vector["tiles"]
    ]


@each("boxes")
def test_boxes_change_no_colour(vector: Vector, toy: Codec) -> None:
    decoded = toy.decompress(bytes.fromhex(vector["hex"]))
    assert decoded.mode == ("RGBA" if vector["alpha"] else "RGB")
    with Image.open(TESTS / "golden" / "decode" / "rgb-1x1.png") as image:
        difference = np.array(decoded.convert("RGB")).astype(int) - np.array(image)
    assert np.abs(difference).max() <= 2


@each("boxes", refused=True)
def test_malformed_files_are_refused_with_the_error_of_the_vectors(
    vector: Vector, toy: Codec
) -> None:
    data = bytes.fromhex(vector["hex"])
    for read in (unpack, toy.decompress, toy.file_symbols):
        with pytest.raises(errors.FormatError) as caught:
            read(data)
        assert type(caught.value) is refusal(vector)


def blocks_of(vector: Vector) -> LosslessBlocks:
    tile = Region(0, 0, vector["height"], vector["width"])
    return unpack_blocks(bytes.fromhex(vector["hex"]), tile, 16 * 2 ** vector["tile_log2"])


def mask_of_reader(vector: Vector) -> NDArray[np.bool_]:
    side = 16 * 2 ** vector["tile_log2"]
    content = bytes.fromhex(vector["hex"])
    return READER.lossless_blocks(content, side, vector["height"], vector["width"])


@each("lossless")
def test_lossless_blocks_are_those_of_the_vectors(vector: Vector) -> None:
    found = blocks_of(vector)
    assert found.pack().hex() == vector["hex"]
    assert (found.block_log2, found.image.hex()) == (vector["block_log2"], vector["image"])
    expected = np.array([[bit == "1" for bit in row] for row in vector["blocks"]])
    assert (found.num_blocks, found.num_lossless) == (expected.size, expected.sum())
    assert np.array_equal(mask_of_reader(vector), expected)
    tile = Region(0, 0, vector["height"], vector["width"])
    in_pixels = expected.repeat(2**found.block_log2, 0).repeat(2**found.block_log2, 1)
    assert np.array_equal(mask_of(found, tile), in_pixels[: tile.height, : tile.width])


@each("lossless", refused=True)
def test_lossless_blocks_are_refused_with_the_error_of_the_vectors(vector: Vector) -> None:
    with pytest.raises(errors.FormatError) as caught:
        blocks_of(vector)
    assert type(caught.value) is refusal(vector)
    with pytest.raises(ValueError, match="lossless blocks"):
        mask_of_reader(vector)


@each("grid")
def test_tiles_lie_where_the_vectors_say(vector: Vector) -> None:
    tile_size = 2 ** vector["tile_log2"]
    grid = TileGrid(vector["width"], vector["height"], tile_size, vector["stride"])
    assert [grid.bounds.height, grid.bounds.width] == vector["latent"]
    found = [[tile.top, tile.left, tile.height, tile.width] for tile in grid]
    assert found == vector["tiles"]
    assert len(grid) == len(vector["tiles"])
    header = {name: vector[name] for name in ("width", "height")} | {"tile": 16 * tile_size}
    sides = READER.tile_sides(header, vector["stride"])
    assert sides == [(height, width) for _, _, height, width in vector["tiles"]]


@each("tables")
def test_entries_start_where_the_vectors_say(vector: Vector) -> None:
    counts = np.array(vector["counts"], np.int64)
    tables = CodingTables((counts,))
    assert np.array_equal(tables.counts[0], counts)
    if not len(counts):
        assert vector["starts"] == []
        return
    starts = np.cumsum(np.append(0, coder_probabilities(counts))) * 2**CODER_BITS
    assert starts.tolist() == vector["starts"]


@each("tables")
def test_both_readers_find_each_symbol_from_its_start_to_its_end(vector: Vector) -> None:
    counts, starts = np.array(vector["counts"], np.int64), vector["starts"]
    reach = len(counts) // 2 - 1
    ours = EntropyCoder(CodingTables((counts,)))
    tensors = {"tables.lengths": np.array([len(counts)]), "tables.counts": counts}
    theirs = READER.Tables(tensors)
    for entry in range(2 * reach + 1):
        for quantile in (starts[entry], starts[entry + 1] - 1):
            words = np.array([5 << CODER_BITS | quantile, 7], np.uint32)
            assert ours.decoder(words.tobytes()).decode(np.zeros(1, np.int32)) == entry - reach
            coder = stream.stack.AnsCoder(words)
            assert theirs.decode(coder, np.zeros(1, np.int64)) == entry - reach


@each("tables", refused=True)
def test_counts_that_are_no_table_are_refused(vector: Vector) -> None:
    with pytest.raises(refusal(vector)):
        CodingTables((np.array(vector["counts"], np.int64),))


def tables_of(vector: Vector) -> CodingTables:
    return CodingTables(tuple(np.array(counts, np.int64) for counts in vector["tables"]))


def integers(values: list[int]) -> NDArray[np.int32]:
    return np.array(values, np.int32)


def payload_of(data: bytes) -> list[int]:
    """Return the words of a payload."""
    return np.frombuffer(data, "<u4").tolist()


def decompression(vector: Vector) -> Decompression:
    """Start on a file of one tile, whose table indexes are known."""
    z, y = (
        torch.tensor(vector[name]["indexes"], dtype=torch.int64)[:, None, None] for name in "zy"
    )
    at_quality = SimpleNamespace(hyper_indexes=lambda *_: z, scale_indexes=lambda *_: y)
    model: Any = SimpleNamespace(
        config=SimpleNamespace(latent_channels=len(y)),
        stride=16,
        synthesis_halo=0,
        hyper_shape=lambda _: z.shape,
        at=lambda _: at_quality,
    )
    payload = np.array(vector["payload"], "<u4").tobytes()
    tile = Tile(vector["symbols_crc"], payload)
    container = Container(Header(Mode.RGB, 0, 1, 1, bytes(8), 64), (tile,))
    return Decompression(model, EntropyCoder(tables_of(vector)), container)


@each("payloads")
def test_payloads_decode_to_the_symbols_of_the_vectors(vector: Vector) -> None:
    symbols = decompression(vector).symbols(0)
    assert symbols.z.flatten().tolist() == vector["z"]["symbols"]
    assert symbols.y.flatten().tolist() == vector["y"]["symbols"]


@each("payloads")
def test_symbols_encode_to_the_words_of_the_vectors(vector: Vector) -> None:
    sections = [
        (integers(vector[name]["symbols"]), integers(vector[name]["indexes"])) for name in "zy"
    ]
    coder = EntropyCoder(tables_of(vector))
    if vector.get("only_read"):
        with pytest.raises(errors.SymbolRangeError):
            coder.entropy_encode(sections)
        return
    assert payload_of(coder.entropy_encode(sections)) == vector["payload"]


@each("payloads")
def test_the_coder_walks_through_the_states_of_the_vectors(vector: Vector) -> None:
    coder = EntropyCoder(tables_of(vector))
    words = stream.stack.AnsCoder(np.array(vector["payload"], np.uint32))
    for _, _, table, x, entry in vector["walk"]:
        state = words.get_compressed()[-2:].astype("<u4").tobytes()
        assert f"{int.from_bytes(state, 'little'):016x}" == x
        uniform = stream.model.Uniform(2**ESCAPE_BITS)
        assert words.decode(uniform if table is None else coder.model(table)) == entry
    assert words.is_empty()


@each("payloads")
def test_the_independent_reader_finds_the_symbols_of_the_vectors(vector: Vector) -> None:
    counts = vector["tables"]
    tables = READER.Tables(
        {
            "tables.lengths": np.array([len(own) for own in counts]),
            "tables.counts": np.array([count for own in counts for count in own], np.uint16),
        }
    )
    coder = stream.stack.AnsCoder(np.array(vector["payload"], np.uint32))
    for name in "zy":
        indexes = np.array(vector[name]["indexes"], np.int64)
        assert tables.decode(coder, indexes).tolist() == vector[name]["symbols"]
    assert coder.is_empty()


@each("payloads", refused=True)
def test_payloads_are_refused_with_the_error_of_the_vectors(vector: Vector) -> None:
    with pytest.raises(errors.FormatError) as caught:
        decompression(vector).symbols(0)
    assert type(caught.value) is refusal(vector)


def exact_layer(vector: Vector) -> ExactConv2d:
    """Return the layer of a vector."""
    name = vector["layer"]
    tensors = {
        key: torch.tensor(values, dtype=torch.float64) for key, values in vector["tensors"].items()
    }
    weight = tensors[f"{name}.weight"]
    outputs, inputs = weight.shape[:2]
    gain = tensors.get(f"{name}.gain.values")
    layer: Conv2d | SpaceConv2d
    if weight.shape[2] == 3:
        layer = SpaceConv2d(outputs)
    elif gain is not None:
        layer = QualityConv2d(inputs, outputs, len(gain))
    else:
        layer = Conv2d(inputs, outputs, 1)
    prefix = f"{name}."
    layer.load_state_dict(
        {
            key.removeprefix(prefix): values.float()
            for key, values in tensors.items()
            if key.startswith(prefix)
        }
    )
    steps = {
        key.removeprefix("exact.").removesuffix(".step"): values.float().numpy()
        for key, values in tensors.items()
        if key.endswith(".step")
    }
    kind = ExactSpaceConv2d if isinstance(layer, SpaceConv2d) else ExactConv2d
    levels, shift = (tensors[f"exact.{name}.{part}"].numpy() for part in ("levels", "shift"))
    return kind(
        layer,
        Form(steps[name], levels.astype(np.int16), shift.astype(np.int8)),
        name=name,
        activation=vector["activation"],
        out_step=out_step(name, steps),
    )


@each("exact_layers")
def test_exact_layers_give_the_values_of_the_vectors(vector: Vector) -> None:
    layer = exact_layer(vector)
    quality = torch.tensor([vector["units"] / 100])
    x = torch.tensor([vector["x"]])
    with torch.inference_mode():
        weight, bias, _ = layer._kernel(quality)
        rounded = layer._received(x.clone())
        found = layer(x) if isinstance(layer, ExactSpaceConv2d) else layer(x, quality)
    scales = 2.0 ** torch.tensor(vector["tensors"][f"exact.{vector['layer']}.shift"])
    numerators = weight * scales[:, None, None, None]
    assert torch.equal(numerators, torch.tensor(vector["W"]).float())
    assert torch.equal(bias * scales, torch.tensor(vector["B"]).float())
    assert rounded[0].tolist() == vector["a"]
    assert found[0].tolist() == vector["y"]


@each("exact_layers")
def test_the_second_readers_layers_give_the_values_of_the_vectors(vector: Vector) -> None:
    name = vector["layer"]
    types = {"step": np.float32, "levels": np.int16, "shift": np.int8}
    tensors = {
        key: np.array(values, types.get(key.rpartition(".")[2], np.float16))
        for key, values in vector["tensors"].items()
    }
    networks = PIXELS.ExactNetworks(tensors, vector["activation"], vector["units"])
    found = networks.convolve(name, np.array(vector["x"], np.float32))
    assert found.tolist() == vector["y"]


@each("scale_head")
@pytest.mark.parametrize("dtype", [torch.float64, torch.int64])
def test_scale_heads_give_the_indexes_of_the_vectors(vector: Vector, dtype: torch.dtype) -> None:
    parts = zip(vector["weights"], vector["biases"], vector["shifts"], strict=True)
    layers = [IntegerLayer(torch.tensor(w), torch.tensor(b), s) for w, b, s in parts]
    head = IntegerScaleHead(layers, torch.tensor(vector["offsets"]), dtype=dtype)
    for case in vector["cases"]:
        assert head(torch.tensor(case["z"]), case["units"]).tolist() == case["indexes"]


@each("scale_head")
def test_the_independent_reader_finds_the_indexes_of_the_vectors(vector: Vector) -> None:
    tensors = {
        "scale_head.shifts": np.array(vector["shifts"]),
        "scale_head.offsets": np.array(vector["offsets"]),
    }
    for k in range(5):
        tensors[f"scale_head.{k}.weight"] = np.array(vector["weights"][k])
        tensors[f"scale_head.{k}.bias"] = np.array(vector["biases"][k])
    for case in vector["cases"]:
        found = READER.scale_indexes(np.array(case["z"]), tensors, case["units"])
        assert found.tolist() == case["indexes"]


@pytest.mark.parametrize("name", FILES)
def test_vectors_have_names_of_their_own_and_lines_of_their_own(name: str) -> None:
    found = vectors(name)
    assert len({vector["name"] for vector in found}) == len(found)
    lines = (VECTORS / f"{name}.json").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line.rstrip(",")) for line in lines[1:-1]] == found
    assert f"`{name}.json`" in (VECTORS / "README.md").read_text(encoding="utf-8")


def test_vectors_that_exist_are_left_alone_and_others_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(VECTORS)
    script = SimpleNamespace(**runpy.run_path(str(VECTORS / "make_vectors.py")))
    assert sorted(script.FILES) == sorted(FILES)
    shutil.copytree(VECTORS, tmp_path, dirs_exist_ok=True)
    first, *rest = vectors("grid")
    old = [rest[-1] | {"tiles": "another"}, *rest[1:-1]]
    (tmp_path / "grid.json").write_text(json.dumps(old), encoding="utf-8")
    script.write(tmp_path)
    assert json.loads((tmp_path / "grid.json").read_text()) == [*old, first, rest[0]]
    for name in set(FILES) - {"grid"}:
        assert (tmp_path / f"{name}.json").read_bytes() == (VECTORS / f"{name}.json").read_bytes()
