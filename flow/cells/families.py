"""Families of cells: those with the same pins and function, which can stand in for each other."""

from __future__ import annotations

from flow.cells.boolean import parse
from flow.cells.library import Cell, Library
from flow.cells.platform import Platform

__all__ = ["families", "sizes"]


def _signature(cell: Cell) -> tuple:
    functions = []
    order = tuple(sorted(cell.inputs))
    for name in sorted(cell.outputs):
        text = cell.pins[name].function
        expression = parse(text) if text else None
        if expression is not None and set(expression.inputs) <= set(order):
            functions.append((name, expression.table(order).tobytes()))
        else:
            functions.append((name, text.encode()))
    return (cell.kind, order, tuple(functions), tuple(sorted(cell.state.items())))


def sizes(library: Library, platform: Platform) -> dict[str, list[str]]:
    """`families` of the cells that a platform may use."""
    return families(
        library,
        {
            name
            for name, cell in library.cells.items()
            if not platform.avoids(name) and not cell.dont_use
        },
    )


def families(library: Library, usable: set[str]) -> dict[str, list[str]]:
    """Cells that can stand in for each other, smallest first.

    Parameters
    ----------
    usable : set of str
        Cells that may be chosen.

    Returns
    -------
    dict of str to list of str
        For every cell of the library, the usable cells with the same pins and function.
    """
    groups: dict[tuple, list[str]] = {}
    signatures = {}
    for name, cell in library.cells.items():
        signatures[name] = _signature(cell)
        if name in usable:
            groups.setdefault(signatures[name], []).append(name)
    for names in groups.values():
        names.sort(key=lambda name: (library.cells[name].area, name))
    return {name: groups.get(signature, []) for name, signature in signatures.items()}
