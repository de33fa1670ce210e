"""A list of layouts: designs and how each is placed and routed, in a YAML file.

For instance::

    version: 1
    layouts:
      - {config: ../dense_p4_q4_m16.yaml, clock_ns: 2, target_ns: 1.5, utilisation: 0.62}
      - {row: dot_product_latch, clock_ns: 2}
      - {unit: encoders, config: ../stella_nera_c32.yaml}

Configurations are relative to the file; rows are those of ``python -m flow bench``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from flow.designs.design import Design, accelerator
from flow.designs.unit import UNITS, unit_design
from flow.netlist.yosys import SynthOptions
from flow.run.flags import positive_ns
from flow.run.options import RunOptions
from flow.studies.bench import ROWS
from halut.checks import known, located, one_of, read_fields, read_yaml
from halut.errors import HalutError
from rtl_gen.config import AcceleratorConfig
from rtl_gen.tiled_config import load_config

__all__ = ["Layout", "read_layouts"]

LIST_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Layout:
    """An entry of the list: one layout to make."""

    config: str = ""  #: Configuration of an accelerator, a file beside the list.
    row: str = ""  #: In place of it, a row of ``python -m flow bench``.
    unit: str = ""  #: With `config`, one of its units alone.
    platform: str = "nangate45"
    corner: str | None = None  #: The platform's default when None.
    clock_ns: float = 6.0
    target_ns: float | None = None  #: What the netlist is made for; `clock_ns` when None.
    adder: str = "auto"  #: As ``--adder``.
    utilisation: float | None = None  #: Share of the core for cells; the platform's when None.
    aspect: float = 1.0  #: As ``--aspect``.
    io_latency_ns: float = 0.0  #: As ``--io-latency-ns``.
    top_layer: str | None = None  #: As ``--top-layer``.
    abstract: bool = False  #: As ``--abstract``.
    channel_um: float = 20.0  #: As ``--channel-um``.
    row_channel_um: float | None = None  #: As ``--row-channel-um``.
    hold_margin_ns: float | None = None  #: As ``--hold-margin-ns``; the platform's when None.
    #: Configuration, or unit, of an earlier entry with `abstract` on the same platform, whose
    #: layout is its units: ``--block``.
    block: str = ""

    def __post_init__(self) -> None:
        if bool(self.config) == bool(self.row):
            raise HalutError(
                f"config or row must be given, not both (config {self.config!r}, row {self.row!r})"
            )
        if self.row:
            one_of("row", self.row, ROWS)
            if self.unit:
                raise HalutError(f"unit must come with config, not with row ({self.unit})")
        if self.unit:
            one_of("unit", self.unit, UNITS)
        positive_ns("clock_ns", self.clock_ns)
        positive_ns("target_ns", self.target_ns)
        self.options()

    @property
    def name(self) -> str:
        """For messages."""
        return self.unit or self.row or Path(self.config).stem

    @property
    def as_block(self) -> str:
        """What later entries call it that have its layout as their units; empty: they cannot."""
        return (self.unit or self.config) if self.abstract else ""

    def options(
        self,
        base: RunOptions = RunOptions(),  # noqa: B008 (frozen)
        block: Path | None = None,
    ) -> RunOptions:
        """How it is run; what the entry does not say is as in `base`.

        Parameters
        ----------
        block : Path, optional
            Folder of the run that `block` names.
        """
        return replace(
            base,
            clock_ns=self.clock_ns,
            target_ns=self.target_ns,
            corner=self.corner,
            synth=SynthOptions(adder=self.adder, booth=bool(self.row) and ROWS[self.row].booth),
            layout="routed",
            place_and_route=replace(
                base.place_and_route,
                utilisation=self.utilisation,
                aspect=self.aspect,
                io_latency_ns=self.io_latency_ns,
                top_layer=self.top_layer,
                abstract=self.abstract,
                channel_um=self.channel_um,
                row_channel_um=self.row_channel_um,
                hold_margin_ns=self.hold_margin_ns,
                block=str(block / "pnr") if block is not None else None,
            ),
        )

    def design(self, folder: Path) -> Design:
        """What is laid out.

        Parameters
        ----------
        folder : Path
            That the configuration's file is relative to.
        """
        if self.row:
            return ROWS[self.row].design()
        if self.unit:
            return unit_design(self.unit, AcceleratorConfig.from_yaml(folder / self.config))
        return accelerator(load_config(folder / self.config))


def read_layouts(path: str | Path) -> list[Layout]:
    """Read a list; every error names the file.

    Raises
    ------
    HalutError
        When a key is unknown, an entry breaks its rule, or there is none.
    """
    values = read_yaml(path, "a list of layouts")
    with located(path):
        known("a list of layouts", values, ("version", "layouts"), "have known keys only ({})")
        version = values.get("version")
        if version != LIST_VERSION:
            raise HalutError(f"version must be {LIST_VERSION}, not {version!r}")
        entries = values.get("layouts")
        if not isinstance(entries, list) or not entries:
            raise HalutError(f"layouts must be a list of at least one entry, not {entries!r}")
        layouts = [read_fields(Layout, entry, f"layouts[{k}]") for k, entry in enumerate(entries)]
        for k, layout in enumerate(layouts):
            if layout.block:
                blocks = [
                    earlier.as_block
                    for earlier in layouts[:k]
                    if earlier.as_block and earlier.platform == layout.platform
                ]
                one_of(f"layouts[{k}].block", layout.block, blocks, "be the config or the unit of "
                       "an earlier layout with abstract on its platform, of {}")  # fmt: skip
                if blocks.count(layout.block) > 1:
                    raise HalutError(
                        f"layouts[{k}].block must be one earlier layout with abstract on its "
                        f"platform, not {blocks.count(layout.block)} ({layout.block})"
                    )
        return layouts
