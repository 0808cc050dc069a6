"""The layers of ARCHITECTURE.md: imports go down only, and a light import stays light."""

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
    ["errors"],
    ["config", "extras"],
    ["format"],
    ["image", "files"],
    ["nn"],
    ["weights"],
    ["inspection"],
    ["codec"],
    ["caecodec"],
    ["CaeImagePlugin", "benchmark", "cluster", "desktop", "train", "view"],
    ["cli"],
    ["__main__"],
]
"""Folders and modules from the bottom; ARCHITECTURE.md draws the same list."""
NN_ORDER = [
    *("activations", "layers", "transforms", "entropy_models", "rounding"),
    *("ssimulacra2", "butteraugli", "ms_ssim", "distortions"),
    *("autoencoder", "folding", "classic", "exact", "exact_form", "exact_layers", "inference"),
    "inference_main",
    *("inference_classic", "architectures", "summary"),
]
THIRD_PARTY = {
    "torch": {"nn", "codec", "train", "cli", "benchmark", "cluster"},
    "constriction": {"format"},
    "typer": {"cli"},
    "rich": {"cli", "benchmark"},
    "matplotlib": {"benchmark"},
    "safetensors": {"weights"},
    "ray": {"cluster"},
    "pyarrow": {"cluster"},
    "fsspec": {"files"},
    "PIL": {"CaeImagePlugin", "benchmark", "caecodec", "cli", "codec", "image", "train"},
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


def top_of(module: str) -> str:
    return module.split(".", maxsplit=1)[0]


def wrong_imports(graph: dict[str, set[str]]) -> list[str]:
    """Return the imports that leave a folder for another one that is not below it."""
    return [
        f"{own} imports {other}"
        for own, others in graph.items()
        for other in others
        if top_of(own) != top_of(other) and layer_of(other) >= layer_of(own)
        if (own, other) != ("caecodec", "codec")
    ]


def reached(graph: dict[str, set[str]], module: str) -> set[str]:
    """Return what a module imports, and what that imports."""
    found, pending = set(), [module]
    while pending:
        for other in graph.get(pending.pop(), set()) - found:
            found.add(other)
            pending.append(other)
    return found


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    return {name_of(path): own_imports(path) for path in MODULES}


def test_every_folder_imports_from_below_alone(graph: dict[str, set[str]]) -> None:
    assert wrong_imports(graph) == []


@pytest.mark.parametrize(
    ("own", "other"),
    [("format.boxes", "image.picture"), ("image.picture", "files.urls"), ("train.data", "cli.app")],
)
def test_a_planted_import_is_found(graph: dict[str, set[str]], own: str, other: str) -> None:
    planted = graph | {own: graph[own] | {other}}
    assert wrong_imports(planted) == [f"{own} imports {other}"]


def test_the_decoder_does_without_the_encoder(graph: dict[str, set[str]]) -> None:
    assert {"codec.encoder", "codec.search"} <= reached(graph, "codec.codec")
    assert not {"codec.encoder", "codec.search"} & reached(graph, "codec.decoder")


def test_the_format_needs_numpy_and_constriction_alone() -> None:
    for path in (PACKAGE / "format").glob("*.py"):
        roots = {top_of(name) for name in imports_of(path)}
        assert roots - sys.stdlib_module_names <= {"caecodec", "numpy", "constriction"}, path


def test_networks_import_in_their_order() -> None:
    for number, name in enumerate(NN_ORDER):
        later = {f"nn.{other}" for other in NN_ORDER[number:]}
        assert not own_imports(PACKAGE / "nn" / f"{name}.py") & later


def test_no_import_cycle(graph: dict[str, set[str]]) -> None:
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


@pytest.mark.slow
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
