"""What a layout leaves for people and other tools: pictures and GDS."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flow.designs.design import BLOCK
from flow.layout.gds import write_gds
from flow.layout.macros import macro_files
from flow.layout.pictures import draw_layout
from flow.layout.routed import RoutedNetlist
from flow.layout.stages import LaidOut
from flow.run.context import Run
from halut.files import file_hash

__all__ = ["GdsFile", "Products", "write_products"]


@dataclass(frozen=True)
class GdsFile:
    """A layout's GDS."""

    file: str  #: Relative to the run's folder.
    size: int  #: Bytes.
    sha256: str


@dataclass(frozen=True)
class Products:
    """Files of a layout."""

    pictures: list[str]  #: Relative to the run's folder.
    gds: GdsFile | None  #: None before routing, and without the GDS of the platform's cells.


def write_products(run: Run, laid_out: LaidOut, routed: RoutedNetlist | None) -> Products:
    """Draw a layout, in ``pictures``, and merge its GDS once it is routed.

    Pictures of an earlier, further layout are removed.
    """
    layout, folder = run.platform.layout, laid_out.folder
    assert layout is not None
    if routed is None:
        name, netlist, kinds = (
            "place.def",
            run.netlist,
            [run.kind(i) for i in run.netlist.instances],
        )
    else:
        name, netlist, kinds = "final.def", routed.netlist, routed.kinds
    lef = [*run.platform.lef_files(), *macro_files(run)]
    gds_files = [run.platform.layout_file(pattern) for pattern in layout.gds]
    names = {i.name: kind for i, kind in zip(netlist.instances, kinds, strict=True)}
    if run.block is not None:
        gds_files.append(run.block.folder / "final.gds")
        names |= dict.fromkeys(run.block_names, BLOCK)
    pictures = folder / "pictures"
    pictures.mkdir(exist_ok=True)
    drawn = draw_layout(
        folder / name,
        lef,
        names,
        pictures,
        platform=run.platform.name,
        clock_nets=[run.design.clock],
    )

    def relative(path: Path) -> str:
        return str(path.relative_to(run.folder))

    gds = None
    if routed is not None and layout.gds:
        write_gds(
            folder / "final.def",
            lef,
            gds_files,
            folder / "final.gds",
            run.platform.layout_file(layout.klayout) if layout.klayout else None,
            lef_cells=macro_files(run) if run.srams else (),
        )
        path = folder / "final.gds"
        gds = GdsFile(relative(path), path.stat().st_size, file_hash(path))
    return Products(sorted(map(relative, drawn.files.values())), gds)
