"""Names of results: each is a hash of everything that the result depends on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flow.cells.platform import Platform
from flow.run.sources import sources_hash
from flow.search.space import Data, SpacePoint
from halut.accumulation import Accumulation
from halut.errors import HalutError
from halut.files import file_hash
from rtl_gen.config import AcceleratorConfig

__all__ = ["Variant", "learned_key", "netlist_key", "point_key"]


def _key(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


@dataclass(frozen=True)
class Variant:
    """What of a configuration changes the results of what was learned, besides C and K."""

    input_format: str
    lut_bits: int
    lut_format: str
    accumulation: Accumulation

    @classmethod
    def of(cls, config: AcceleratorConfig) -> Variant:
        # Exact sums are the same in any order and width.
        ordered = config.overflow == "saturate" or config.lut_format == "fp16"
        return cls(
            config.input_format,
            config.lut_bits,
            config.lut_format,
            Accumulation(
                acc_bits=config.acc_bits if config.overflow else None,
                overflow=config.overflow,
                parallel_codebooks=config.parallel_codebooks if ordered else 1,
            ),
        )


def learned_key(config: AcceleratorConfig, data: Data, learning: Mapping[str, Any]) -> str:
    """Name of what was learned for a configuration from `data`, with arguments `learning`."""
    return _key(
        data.digest, config.n_codebooks, config.n_prototypes, dict(learning),
        dataclasses.astuple(Variant.of(config)), sources_hash(),
    )  # fmt: skip


def _netlist_parts(point: SpacePoint, platform: Platform) -> list[Any]:
    assert point.config is not None
    # The name is that of the space, and changes no hardware.
    config = {k: v for k, v in point.config.to_dict().items() if k != "name"}
    return [
        config, platform.source.read_text(), _hashes(platform.liberty_files, point.corner),
        point.corner, point.target_ns, sources_hash(),
    ]  # fmt: skip


def _hashes(files: Callable[..., list[Path]], *arguments: Any) -> list[str] | None:
    """Of a platform's files; None where one is missing, as measuring the point will say."""
    try:
        return [file_hash(path) for path in files(*arguments)]
    except HalutError:
        return None


def netlist_key(point: SpacePoint, platform: Platform) -> str:
    """Name of a valid point's netlist: clocks, layouts and programs share it."""
    return _key(_netlist_parts(point, platform))


def point_key(point: SpacePoint, platform: Platform, seed: int, learned: str | None) -> str:
    """Name of a valid point's record; `learned` is the `learned_key` of its program."""
    laid_out = point.layout != "none" and platform.layout is not None
    lef = _hashes(platform.lef_files) if laid_out else None
    return _key(_netlist_parts(point, platform), point.clock_ns, point.layout, lef, seed, learned)
