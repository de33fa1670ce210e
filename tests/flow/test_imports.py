"""Imports run one way: between the packages, between the folders of flow, between modules.

Every import counts, also one inside a function or under ``TYPE_CHECKING``.
"""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]

# What is further right may import what is further left. CONTRIBUTING.md says the same.
PACKAGES = ["halut", "rtl_gen", "sim", "flow", "soc"]
PARTS_OF_FLOW = [
    "tools", "cells", "netlist", "designs", "timing", "power", "repair", "simulation", "formal",
    "run", "layout", "figures", "measure", "report", "mutation", "studies", "search", "fpga",
    "doctor", "cli", "__main__",
]  # fmt: skip


class Import(NamedTuple):
    module: str
    line: int
    of: str


def _modules() -> dict[str, Path]:
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = _modules()
TREES = {module: ast.parse(path.read_text()) for module, path in MODULES.items()}


def imports(module: str, tree: ast.Module) -> Iterator[Import]:
    """What a module imports, by full name; a submodule rather than its package."""
    is_package = module in MODULES and MODULES[module].name == "__init__.py"
    parents = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(module, node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            above = parents[: len(parents) + 1 - node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                name = f"{base}.{alias.name}"
                yield Import(module, node.lineno, name if name in MODULES else base)


IMPORTS = [found for module, tree in TREES.items() for found in imports(module, tree)]


def _part(module: str) -> str:
    """Folder of flow, or module directly in it; "" for the package itself."""
    return [*module.split("."), ""][1]


def wrong_ways(found: list[Import]) -> set[tuple[str, str]]:
    """Imports against the order of packages or of flow's parts, as (module, imported)."""
    wrong = set()
    for one in found:
        package, other = one.module.split(".")[0], one.of.split(".")[0]
        if other not in PACKAGES:
            continue
        if PACKAGES.index(other) > PACKAGES.index(package):
            wrong.add((one.module, one.of))
        elif package == other == "flow" and _part(one.module) and _part(one.of):
            here, there = (PARTS_OF_FLOW.index(_part(name)) for name in (one.module, one.of))
            if there > here:
                wrong.add((one.module, one.of))
    return wrong


def test_every_part_of_flow_has_a_place_in_the_order():
    parts = {_part(module) for module in MODULES if module.startswith("flow.")}
    assert parts <= set(PARTS_OF_FLOW), f"give {parts - set(PARTS_OF_FLOW)} a place"


def test_contributing_states_the_order():
    text = " ".join((ROOT / "CONTRIBUTING.md").read_text().split())
    assert " → ".join(reversed(PACKAGES)) in text
    folders = [part for part in PARTS_OF_FLOW if (ROOT / "flow" / part).is_dir()]
    assert " → ".join(reversed(folders)) in text


def test_flow_has_rooms():
    assert len(list((ROOT / "flow").glob("*.py"))) <= 6  # with __init__.py
    long = {
        module: lines
        for module, path in MODULES.items()
        if module.startswith("flow") and (lines := path.read_text().count("\n")) > 450
    }
    assert long == {}


def test_imports_run_one_way():
    assert len(IMPORTS) > 1000
    assert wrong_ways(IMPORTS) == set()


@pytest.mark.parametrize(
    ("module", "line", "wrong"),
    [
        ("halut.tiles", "import sim.runner", "sim.runner"),
        ("rtl_gen.top", "from sim import runner", "sim.runner"),
        ("flow.cells.liberty", "from flow.timing import graph", "flow.timing.graph"),
        ("flow.cells.liberty", "def f():\n    from ..timing import graph", "flow.timing.graph"),
        (
            "flow.netlist.yosys",
            "if TYPE_CHECKING:\n    from flow.run.context import Run",
            "flow.run.context",
        ),
        ("flow.run.context", "from flow.cells.library import Library", None),
        ("flow.run.context", "from .options import RunOptions", None),
    ],
)
def test_an_import_against_the_order_is_found(module, line, wrong):
    found = wrong_ways(list(imports(module, ast.parse(line))))
    assert found == ({(module, wrong)} if wrong else set())


def test_no_modules_import_each_other_in_a_circle():
    graph: dict[str, set[str]] = {module: set() for module in MODULES}
    for module, _, of in IMPORTS:
        # A module may ask a package that it is in, for its version.
        if of in MODULES and not f"{module}.".startswith(f"{of}."):
            graph[module].add(of)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def _at_import(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements that run when a module is imported."""
    for node in body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from _at_import(node.orelse)
            continue
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for name in ("body", "orelse", "handlers", "finalbody"):
                yield from _at_import(getattr(node, name, []))


def imports_torch(tree: ast.Module) -> bool:
    """Whether a module imports torch when it is imported."""
    names = []
    for node in _at_import(tree.body):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.append(node.module or "")
    return any(name.split(".")[0] in ("torch", "torchvision") for name in names)


def test_only_halut_nn_needs_torch_to_be_imported():
    need = {module for module, tree in TREES.items() if imports_torch(tree)}
    assert need and all(module.startswith("halut.nn") for module in need)


@pytest.mark.parametrize(
    ("text", "needs"),
    [
        ("import torch.nn", True),
        ("try:\n    from torch import nn\nexcept ImportError:\n    pass", True),
        ("class A:\n    import torch", True),
        ("def f():\n    import torch", False),
        ("if TYPE_CHECKING:\n    import torch", False),
    ],
)
def test_imports_of_torch_are_found(text, needs):
    assert imports_torch(ast.parse(text)) is needs
