"""The plan of the house: imports point down, each third party has one door, and `import fewstep` is light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "src" / "fewstep"

# A room may import from the rooms below it and from itself; rooms on one floor do not know each other.
FLOORS = [{"core", "imaging"}, {"models"}, {"runtime"}, {"pipelines", "data"}, {"server", "train", "evaluate"}, {"cli"}]
LOBBY = {
    "",
    "errors",
    "files",
    "lazily",
    "__main__",
}  # the package itself, what it offers, its errors, its files, and `python -m fewstep`

DOORS = {
    "diffusers": {"models"},
    "transformers": {"models"},
    "tokenizers": {"models"},
    "peft": {"models"},
    "huggingface_hub": {"models"},
    "datasets": {"data"},
    "webdataset": {"data"},
    "bitsandbytes": {"train"},
    "accelerate": {"models", "train", "evaluate"},
    "torch_fidelity": {"evaluate"},
    "openvino": {"runtime"},
    "fastapi": {"server"},
    "typer": {"cli"},
    "rich": {"cli"},
    "torch": {"core", "imaging", "models", "runtime", "pipelines", "data", "train", "evaluate", "server"},
    "numpy": {"imaging", "models", "runtime", "pipelines", "data", "train", "evaluate", "server"},
}


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return "" if parts == ("__init__",) else parts[0]


def imported(tree: ast.Module) -> Iterator[str]:
    """The dotted names that a file imports, wherever in it, type-checking blocks included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            if node.module == "fewstep":
                yield from (f"fewstep.{alias.name}" for alias in node.names)
            else:
                yield node.module or ""


def module_of(path: Path) -> str:
    parts = ("fewstep", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def needed(trees: Mapping[str, ast.AST]) -> dict[str, set[str]]:
    """For each of our modules, those that it imports, inside functions and for the type checker, too."""
    found: dict[str, set[str]] = {module: set() for module in trees}
    for module, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found[module] |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found[module] |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        # `from package import module` needs the module; the package itself stands above it anyway
        found[module] = {
            each for each in found[module] & trees.keys() if each != module and not module.startswith(each)
        }
    return found


def circle(needs: Mapping[str, set[str]]) -> list[str]:
    """Modules that need each other in a circle, if any do."""
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def violations(room: str, tree: ast.Module) -> Iterator[str]:
    for name in imported(tree):
        top, _, rest = name.partition(".")
        if top == "fewstep":
            target = rest.partition(".")[0]
            if room not in LOBBY and target in set().union(*FLOORS) and not may_import(room, target):
                yield f"{room} imports {name}"
            if room == "core" and target != "core":
                yield f"core imports {name}"
        elif top in DOORS and room not in DOORS[top]:
            yield f"{room or 'the package root'} imports {name}"
        elif room == "core" and top not in sys.stdlib_module_names and top != "torch":
            yield f"core imports {name}"


def may_import(room: str, target: str) -> bool:
    return room == target or floor_of(target) < floor_of(room)


def floor_of(room: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down_and_third_parties_have_one_door(path: Path) -> None:
    room = room_of(path)
    assert room in LOBBY or room in set().union(*FLOORS), f"{path} is in a room that the plan does not know"
    assert list(violations(room, ast.parse(path.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize(
    ("room", "line"),
    [
        ("core", "from fewstep.models.card import ModelCard"),
        ("core", "from fewstep.errors import FewstepError"),
        ("core", "import numpy"),
        ("core", "from fewstep.imaging import masks"),
        ("imaging", "from fewstep.core import noise"),
        ("models", "from fewstep.pipelines import text2image"),
        ("pipelines", "def f():\n    import fewstep.cli.main"),
        ("pipelines", "from fewstep import data"),
        ("train", "from fewstep.evaluate import sweep"),
        ("pipelines", "import diffusers.models"),
        ("models", "from typer import echo"),
        ("cli", "import torch"),
        ("", "import torch"),
    ],
)
def test_a_turned_arrow_is_noticed(room: str, line: str) -> None:
    assert list(violations(room, ast.parse(line)))


def test_no_files_need_each_other_in_a_circle() -> None:
    trees = {module_of(path): ast.parse(path.read_text(encoding="utf-8")) for path in sources()}
    assert circle(needed(trees)) == []


def test_a_circle_of_files_is_noticed() -> None:
    texts = {"a.x": "def f():\n    from a import y", "a.y": "import a.z", "a.z": "from a.x import f"}
    for last in (texts["a.y"], "if TYPE_CHECKING:\n    import a.z"):
        trees = {name: ast.parse(text) for name, text in (texts | {"a.y": last}).items()}
        assert set(circle(needed(trees))) == set(texts)


def test_the_doors_that_are_open_are_allowed() -> None:
    assert not list(violations("models", ast.parse("import diffusers\nfrom fewstep.core import schedule")))
    assert not list(violations("cli", ast.parse("import typer\nfrom fewstep.train import loop")))


def heavy_modules_after(code: str) -> list[str]:
    heavy = ("torch", "numpy", "diffusers", "transformers", "typer", "rich", "PIL")
    script = f"{code}\nimport sys; print(' '.join(name for name in {heavy} if name in sys.modules))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return run.stdout.split()


def test_importing_fewstep_imports_nothing_heavy() -> None:
    assert heavy_modules_after("import fewstep; fewstep.__version__; dir(fewstep)") == []


def test_a_mistake_is_reported_before_anything_heavy_is_imported() -> None:
    mistake = "from fewstep.cli.main import main; assert main(['generate', 'a', '--steps', '0']) == 2"
    assert not {"torch", "numpy", "diffusers", "transformers"} & set(heavy_modules_after(mistake))


def test_every_public_name_is_there() -> None:
    import fewstep

    assert all(getattr(fewstep, name) is not None for name in fewstep.__all__)
    assert fewstep.train.train.__module__ == "fewstep.train.run"
    assert fewstep.evaluate.evaluate.__module__ == "fewstep.evaluate.run"
    assert "tcd" in fewstep.samplers.SAMPLERS
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = fewstep.nothing_of_the_kind
