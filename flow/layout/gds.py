"""A layout as GDSII: the placed and routed DEF merged with the cells' own geometry, by KLayout."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flow.layout.lefdef import read_def, read_lef
from halut.errors import CheckFailed, HalutError
from halut.files import atomic_write

if TYPE_CHECKING:
    import klayout.db

__all__ = ["Gds", "write_gds"]


@dataclass(frozen=True)
class Gds:
    """What was written."""

    path: Path
    top: str  #: The top cell: the design.
    cells: dict[str, int]  #: Number of instances of each library cell.
    die_um: tuple[float, float, float, float]  #: Left, bottom, right, top of the die, µm.


def _klayout() -> Any:
    try:
        import klayout.db
    except ImportError:
        raise HalutError("klayout must be installed for GDS: pip install -e .[flow]") from None
    return klayout.db


def _read(layout: klayout.db.Layout, path: Path, what: str, options: Any = None) -> None:
    try:
        layout.read(str(path), *([options] if options is not None else []))
    except RuntimeError as error:
        text = " ".join(str(error).split())
        raise HalutError(f"{what} must be readable: {text} ({path})") from None


def _options(
    db: Any, technology: Path | None, lef_files: Sequence[Path], dbu: float, cells: list[Any]
) -> Any:
    """Load options with the technology's layer map.

    Parameters
    ----------
    lef_files : sequence of Path
        What is read besides.
    dbu : float
        Database unit, um.
    cells : list of klayout.db.Layout
        Where all cells come from; LEF's pins and blockages become cells where it is empty.
    """
    options = db.LoadLayoutOptions()
    if technology is not None:
        loaded = db.Technology()
        try:
            loaded.load(str(technology))
        except RuntimeError as error:
            text = " ".join(str(error).split())
            raise HalutError(
                f"a technology must be a KLayout .lyt file: {text} ({technology})"
            ) from None
        options = loaded.load_layout_options
    reader = options.lefdef_config
    if technology is not None and reader.map_file:
        # Written for wherever the kit's makers keep it.
        reader.map_file = str(technology.parent / Path(reader.map_file).name)
    # Nothing else that lies beside the DEF is read.
    reader.read_lef_with_def = False
    reader.lef_files = [str(file.resolve()) for file in lef_files]
    reader.macro_resolution_mode = 2 if cells else 1
    reader.macro_layouts = cells
    reader.produce_cell_outlines = True
    reader.dbu = dbu
    options.lefdef_config = reader
    # It would say that the DEF's unit is another one, which is wanted.
    options.warn_level = 0
    return options


def write_gds(
    def_file: Path,
    lef_files: Sequence[Path],
    gds_files: Sequence[Path],
    path: Path,
    technology: Path | None = None,
    lef_cells: Sequence[Path] = (),
) -> Gds:
    """Merge a layout with its cells; the same files give the same bytes.

    Parameters
    ----------
    def_file : Path
        The layout.
    lef_files, gds_files : sequence of Path
        Of the technology and the cells. All GDS files must have one database unit, which the
        result has too.
    path : Path
        The GDSII file to write; only after the checks.
    technology : Path, optional
        KLayout technology (.lyt) with the LEF/DEF layer map. Without one KLayout numbers the
        layers of the wires itself, and they are not those of the cells.
    lef_cells : sequence of Path
        Those of `lef_files` whose cells have no layout, as macros of memory compilers for research:
        pins and blockages are written in its place.

    Raises
    ------
    HalutError
        When KLayout is not installed or a file cannot be used.
    CheckFailed
        When a cell has no geometry, the top cell is not the design, or its outline is not the die.
    """
    db = _klayout()
    # KLayout takes a missing LEF, or a cell that is in none, without a word.
    design = read_def(def_file, read_lef(lef_files), wires=False)
    name, die = design.name, design.die
    cells = Counter(design.masters)
    libraries = []
    for file in gds_files:
        library = db.Layout()
        _read(library, file, "GDS")
        libraries.append(library)
    units = {library.dbu for library in libraries}
    if len(units) != 1:
        raise HalutError(
            f"GDS files must be given and have one database unit, not {sorted(units)} "
            f"({', '.join(map(str, gds_files))})"
        )
    dbu = units.pop()
    if lef_cells:
        others = [file for file in lef_files if file not in lef_cells]
        options = _options(db, technology, others, dbu, [])
        drawn = db.Layout()
        for file in lef_cells:
            _read(drawn, file, "LEF", options)
        libraries.append(drawn)
    options = _options(db, technology, lef_files, dbu, libraries)
    outline_layer = options.lefdef_config.cell_outline_layer
    layout = db.Layout()
    _read(layout, def_file, "DEF", options)

    tops = [cell.name for cell in layout.top_cells()]
    if tops != [name]:
        raise CheckFailed(f"the top cell must be {name}, not {', '.join(tops)} ({def_file})")
    top = layout.cell(name)
    empty = [
        cell
        for cell in sorted(cells)
        if not any(library.has_cell(cell) for library in libraries) or layout.cell(cell).is_empty()
    ]
    if empty:
        raise CheckFailed(
            f"every cell must have geometry in the GDS, not none: {', '.join(empty)} "
            f"({', '.join(map(str, gds_files))})"
        )
    placed = Counter(instance.cell.name for instance in top.each_inst())
    for cell, count in cells.items():
        if placed[cell] != count:
            raise CheckFailed(
                f"{cell} must be placed {count} times, not {placed[cell]} ({def_file})"
            )
    outline = db.Box()
    for layer in layout.layer_indexes():
        if outline_layer in layout.get_info(layer).name.split(";"):
            for shape in top.shapes(layer).each():
                outline += shape.bbox()
    expected = db.DBox(*die.tolist()).to_itype(layout.dbu)
    if outline != expected:
        raise CheckFailed(
            f"the outline of {name} must be DIEAREA {expected.to_dtype(layout.dbu)} µm, not "
            f"{outline.to_dtype(layout.dbu)} ({def_file})"
        )
    save = db.SaveLayoutOptions()
    save.format = "GDS2"
    save.gds2_write_timestamps = False
    with atomic_write(path) as temporary:
        layout.write(str(temporary), save)
    return Gds(path, name, dict(sorted(cells.items())), tuple(die.tolist()))
