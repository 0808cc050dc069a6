"""DESIGN's layers, checked: imports go down only, and a light import stays light."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import caecodec
from caecodec import errors

PACKAGE = Path(caecodec.__file__).parent
LAYERS = [
    ["errors", "config", "extras"],
    [
        *("boxes", "complexity", "container", "entropy_coder", "memory", "metrics", "pixels"),
        *("replacing", "salvage", "tables", "tiles", "urls"),
    ],
    ["nn"],
    ["weights"],
    [
        *("codec", "compression", "decompression", "effort", "feature_maps", "inspection"),
        *("mosaic", "targets"),
    ],
    ["caecodec"],
    ["CaeImagePlugin", "bench", "desktop", "scale", "train"],
    ["cli"],
    ["__main__"],
]
NN_ORDER = [
    *("layers", "transforms", "entropy_models", "rounding", "ssimulacra2", "distortions"),
    *("autoencoder", "folding", "classic", "exact", "frozen", "frozen_classic", "architectures"),
    "layer_rows",
]
THIRD_PARTY = {
    "torch": {
        *("nn", "codec", "compression", "decompression", "effort", "mosaic", "train", "cli"),
        *("bench", "scale"),
    },
    "constriction": {"entropy_coder"},
    "typer": {"cli"},
    "rich": {"cli", "bench"},
    "matplotlib": {"bench"},
    "safetensors": {"weights"},
    "ray": {"scale"},
    "pyarrow": {"scale"},
    "fsspec": {"urls"},
}
MODULES = sorted(PACKAGE.rglob("*.py"))
MAX_LINES = 350
MAX_FUNCTION = 55


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__") or "caecodec"


def layer_of(module: str) -> int:
    top = module.split(".", maxsplit=1)[0]
    return next(number for number, names in enumerate(LAYERS) if top in names)


def imports_of(path: Path) -> set[str]:
    """Return the absolute names that a module imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in {path}"
            found.add(node.module or "")
    return found


def own_imports(path: Path) -> set[str]:
    prefix = "caecodec."
    names = {name.removeprefix(prefix) for name in imports_of(path) if name.startswith(prefix)}
    return names | ({"caecodec"} if "caecodec" in imports_of(path) else set())


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_down_only(path: Path) -> None:
    own = name_of(path)
    for other in own_imports(path):
        if own == "caecodec" and other == "codec":
            continue
        same_package = own.split(".", 1)[0] == other.split(".", 1)[0]
        assert same_package or layer_of(other) <= layer_of(own), f"{own} imports {other}"


def test_networks_import_in_their_order() -> None:
    for number, name in enumerate(NN_ORDER):
        later = {f"nn.{other}" for other in NN_ORDER[number:]}
        assert not own_imports(PACKAGE / "nn" / f"{name}.py") & later


def test_no_import_cycle() -> None:
    graph = {name_of(path): own_imports(path) for path in MODULES}
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join((*trail, module))
        if module not in done:
            for other in graph.get(module, set()) - {"caecodec"}:
                visit(other, (*trail, module))
            done.add(module)

    for module in graph:
        visit(module, ())


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_each_library_stays_in_its_layer(path: Path) -> None:
    roots = {name.split(".")[0] for name in imports_of(path)}
    for library, homes in THIRD_PARTY.items():
        assert library not in roots or name_of(path).split(".")[0] in homes, library


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_files_and_functions_stay_short(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= MAX_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            first = node.body[0].lineno  # the options of a command are its arguments
            assert (node.end_lineno or 0) - first < MAX_FUNCTION, node.name


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_only_the_command_line_prints(path: Path) -> None:
    calls = {
        node.func.id
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert "print" not in calls


def test_the_public_names_are_complete_sorted_and_documented() -> None:
    assert caecodec.__all__ == sorted(caecodec.__all__)
    for name in caecodec.__all__:
        public = getattr(caecodec, name)
        assert name == "__version__" or public.__doc__, name


def test_every_error_is_a_public_name() -> None:
    pending, found = [caecodec.CodecError], set()
    while pending:
        error = pending.pop()
        assert error.__module__ == "caecodec.errors"
        assert getattr(caecodec, error.__name__) is error
        assert f"── {error.__name__}" in (errors.__doc__ or "") or error is caecodec.CodecError
        found.add(error)
        pending += error.__subclasses__()
    assert len(found) == len([name for name in caecodec.__all__ if name.endswith("Error")])


def test_importing_caecodec_loads_no_torch() -> None:
    command = "import sys, caecodec; assert not {'torch', 'numpy', 'PIL'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", command], check=True)


def test_training_needs_no_constriction() -> None:
    command = (
        "import sys; sys.modules['constriction'] = None\n"
        "import caecodec.cli.training, caecodec.cli.app"
    )
    subprocess.run([sys.executable, "-c", command], check=True)


def test_every_module_imports() -> None:
    for path in MODULES:
        if path.name != "__main__.py":
            importlib.import_module(
                f"caecodec.{name_of(path)}".replace("caecodec.caecodec", "caecodec")
            )
