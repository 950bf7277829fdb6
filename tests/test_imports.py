"""Imports point one way, declared packages are enough, help stays quick: read from the source itself."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PACKAGE = REPOSITORY / "src" / "latentqa"

BASE = {"types", "errors"}
ALLOWED: dict[str, set[str]] = {
    "types": set(),
    "errors": set(),
    "reader": BASE,
    "store": BASE,
    "builtin": set(),
}
"""Room → rooms that it may import, besides itself. The tiers of docs/design.md, from the bottom up."""

TIERS: tuple[tuple[str, ...], ...] = (
    ("models",),
    ("activations", "dialogs"),
    ("data", "decoder"),
    ("training", "steering"),
    ("baselines",),
    ("benchmarks",),
    ("audit",),
    ("cli", "server"),
)
for tier in TIERS:
    below = set(ALLOWED)
    ALLOWED.update(dict.fromkeys(tier, below))
ALLOWED["decoder"] = ALLOWED["decoder"] | {"data"}  # evaluation reads items; data knows nothing of decoders

PACKAGE_NAMES = {"yaml": "pyyaml", "pydantic_core": "pydantic", "sklearn": "scikit_learn"}
WITHOUT_TORCH = ("cli", "data", "server", "errors", "types", "reader")
"""Rooms that touch no tensors: what they import at their top holds neither torch nor what needs it."""


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    """Give the room of a module: its folder below the package, or its own name at the top."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def imported(tree: ast.AST) -> Iterator[str]:
    """Yield the full name of everything that a tree imports, wherever in the module it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_at_top(path: Path) -> Iterator[str]:
    """Yield what importing the module imports: not what its functions do, nor what only type checkers see."""
    body = ast.parse(path.read_text()).body
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from imported(node)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    here = room(path)
    if here in ("__init__", "__main__"):
        return
    names = {
        name.split(".")[1] for name in imported(ast.parse(path.read_text())) if name.startswith("latentqa.")
    }
    wrong = names - ALLOWED[here] - {here}
    assert not wrong, f"{here} may not import {sorted(wrong)}"


def test_every_third_party_import_is_declared() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    declared = {
        requirement.split(">=")[0].lower().replace("-", "_") for given in lists for requirement in given
    }
    used = {name.split(".")[0] for path in modules() for name in imported(ast.parse(path.read_text()))}
    packages = {PACKAGE_NAMES.get(name, name) for name in used - sys.stdlib_module_names - {"latentqa"}}
    assert packages <= declared, f"imported and not declared: {sorted(packages - declared)}"


@pytest.mark.parametrize(
    "path", [path for path in modules() if room(path) in WITHOUT_TORCH], ids=lambda path: path.stem
)
def test_light_rooms_import_no_torch_at_their_top(path: Path) -> None:
    heavy = {"torch", "transformers", "peft", "accelerate", "safetensors"}
    assert not heavy & {name.split(".")[0] for name in imported_at_top(path)}


@pytest.mark.parametrize("code", ["import latentqa", "import latentqa.cli.main", "import latentqa.data"])
def test_light_imports_load_no_torch(code: str) -> None:
    probe = f"import sys; {code}; print(sorted({{'torch', 'transformers', 'peft'}} & set(sys.modules)))"
    assert run_python("-c", probe).stdout.strip() == "[]"


@pytest.mark.parametrize(
    "arguments", [["--help"], ["ask", "--help"], ["train", "--help"], ["data", "check", "--help"]]
)
def test_help_loads_no_torch(arguments: list[str]) -> None:
    finished = run_python("-X", "importtime", "-m", "latentqa", *arguments)
    assert "Usage: latentqa" in finished.stdout
    loaded = {line.rsplit("|")[-1].strip() for line in finished.stderr.splitlines()}
    assert "typer" in loaded
    assert not loaded & {"torch", "transformers", "peft"}


def run_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True)
