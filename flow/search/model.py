"""Analytic area, energy and period of a configuration, fitted to measured ones.

The structure of an accelerator follows from its configuration by counting: so many latches,
flip-flops, bits of one-hot selects, adders, comparators, lines to drive. Area and energy are sums
of these counts with one non-negative coefficient each; the period is that of a logic path whose
depth grows with the logarithms of its selects, adders and fan-outs. Coefficients are fitted, per
platform and corner, to the metrics of synthesised configurations (least squares of relative
errors), and the model's error is stated by leaving each configuration out in turn.

An estimate is for searching; it is never a measurement and is always labelled as modelled.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.search.counts import FEATURES
from halut.checks import located, read_json
from halut.cli import Parser
from halut.errors import HalutError
from halut.files import write_text
from rtl_gen.config import AcceleratorConfig

__all__ = [
    "MODEL_VERSION",
    "Estimate",
    "LeftOut",
    "Model",
    "Point",
    "fit",
    "main",
    "measure_point",
    "shipped_model",
    "training_configs",
]


MODEL_VERSION = 1
_NOT_FITTED = ("double_buffer", "output_format", "relu", "lut_format", "overflow")
"""Fields of a configuration that no fitted point sets."""

TARGETS = {
    "area_um2": "synth__design__instance__area__stdcell",
    "energy_pj_per_cycle": "halut__energy__per_cycle",
    "period_ns": "halut__timing__shortest_period",
}


@dataclass(frozen=True, kw_only=True)
class Point:
    """A measured configuration: what `fit` learns from."""

    config: AcceleratorConfig
    #: Per target of the model; None where it was not measured.
    measured: Mapping[str, float | None]
    provenance: Mapping[str, Any]  #: Of the measurement: platform, corner, clock, tools.


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Modelled figures of a configuration (never measured)."""

    area_um2: float
    energy_pj_per_cycle: float
    period_ns: float
    #: At full rate, with the configuration's codebook width.
    area_um2_per_mac_per_cycle: float
    energy_pj_per_mac: float


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """Relative errors of configurations that were left out of the fit, one at a time."""

    mean: float
    largest: float
    points: int


@dataclass(frozen=True, kw_only=True)
class Model:
    """A fitted model."""

    coefficients: Mapping[str, Mapping[str, float]]  #: {target: {feature: coefficient}}.
    errors: Mapping[str, LeftOut]  #: By target.
    conditions: Mapping[str, Any]  #: Platform, corner, clock and tools of the measurements.
    #: The measurements: configuration, figures, and the figures estimated without it.
    points: Sequence[Mapping[str, Any]]

    def estimate(self, config: AcceleratorConfig) -> Estimate:
        """Estimate a configuration; only of the kinds that the model was fitted to."""
        defaults = {field.name: field.default for field in dataclasses.fields(config)}
        for name in _NOT_FITTED:
            if getattr(config, name) != defaults[name]:
                raise HalutError(
                    f"{name} must be {defaults[name]!r} for an estimate, not "
                    f"{getattr(config, name)!r}: the model was fitted without (flow synth measures)"
                )
        value = {
            target: sum(
                coefficient * FEATURES[target](config)[name]
                for name, coefficient in self.coefficients[target].items()
            )
            for target in TARGETS
        }
        macs = config.macs_per_cycle
        return Estimate(
            **value,
            area_um2_per_mac_per_cycle=value["area_um2"] / macs,
            energy_pj_per_mac=value["energy_pj_per_cycle"] / macs,
        )

    def save(self, path: str | Path) -> None:
        """Write the model as JSON."""
        content = {
            "version": MODEL_VERSION,
            "kind": "halut-model",
            "coefficients": self.coefficients,
            "errors": {name: dataclasses.asdict(error) for name, error in self.errors.items()},
            "conditions": self.conditions,
            "points": list(self.points),
        }
        write_text(path, json.dumps(content, indent=2) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Model:
        """Read a model; a foreign file is one clear error."""
        with located("python -m flow model fit makes one"):
            content = read_json(path, "a model")
        try:
            if content["kind"] != "halut-model" or content["version"] != MODEL_VERSION:
                raise KeyError("kind")
            return cls(
                coefficients=content["coefficients"],
                errors={name: LeftOut(**error) for name, error in content["errors"].items()},
                conditions=content["conditions"],
                points=content["points"],
            )
        except (KeyError, TypeError, AttributeError):
            raise HalutError(
                f"a model must be a file written by python -m flow model fit, not {path}"
            ) from None


def _solve(features: NDArray[np.float64], measured: NDArray[np.float64]) -> NDArray[np.float64]:
    """Non-negative coefficients of least relative error."""
    from scipy.optimize import nnls

    scale = features.max(axis=0)
    scale[scale == 0] = 1
    solution, _ = nnls(features / scale / measured[:, None], np.ones(len(measured)))
    return solution / scale


_CONDITIONS = ("platform", "corner", "voltage", "temperature", "clock_ns", "target_ns", "tools")


def fit(points: Sequence[Point]) -> Model:
    """Fit a model and find its error by leaving each configuration out in turn.

    Parameters
    ----------
    points : sequence of Point
        At least two more than a target has features.

    Raises
    ------
    HalutError
        When there are too few measured points.
    """
    coefficients: dict[str, dict[str, float]] = {}
    errors: dict[str, LeftOut] = {}
    table: list[dict[str, Any]] = [
        {"configuration": p.config.slug, "measured": dict(p.measured), "left_out": {}}
        for p in points
    ]
    for target in TARGETS:
        used = [i for i, p in enumerate(points) if p.measured.get(target) is not None]
        rows = [FEATURES[target](points[i].config) for i in used]
        names = list(FEATURES[target](AcceleratorConfig()))
        if len(used) < len(names) + 2:
            raise HalutError(
                f"measured configurations must be at least {len(names) + 2} to model {target}, "
                f"not {len(used)}"
            )
        features = np.array([[row[name] for name in names] for row in rows])
        measured = np.array([points[i].measured[target] for i in used], dtype=np.float64)
        solution = _solve(features, measured)
        coefficients[target] = dict(zip(names, solution.tolist(), strict=True))
        relative = []
        for k, i in enumerate(used):
            others = np.arange(len(used)) != k
            left_out = float(features[k] @ _solve(features[others], measured[others]))
            table[i]["left_out"][target] = left_out
            relative.append(abs(left_out / measured[k] - 1))
        errors[target] = LeftOut(
            mean=float(np.mean(relative)), largest=float(np.max(relative)), points=len(used)
        )
    shared = points[0].provenance
    conditions = {name: shared[name] for name in _CONDITIONS if name in shared}
    conditions["stage"] = "after synthesis, buffering and sizing; no wires"
    return Model(coefficients=coefficients, errors=errors, conditions=conditions, points=table)


def training_configs() -> list[AcceleratorConfig]:
    """Small configurations that vary every axis: enough to fit, minutes to synthesise."""
    axes: list[dict[str, Any]] = [
        {"n_codebooks": 4, "n_outputs": 2, "encoder": "interleaved"},
        {"n_codebooks": 8, "n_outputs": 4, "encoder": "interleaved"},
        {"n_codebooks": 4, "n_outputs": 4, "encoder": "pipelined"},
        {"n_codebooks": 8, "n_outputs": 4, "input_format": "int8"},
        {"n_codebooks": 4, "n_outputs": 4, "n_prototypes": 8, "input_format": "int8"},
        {"n_codebooks": 4, "n_outputs": 4, "rows": 4, "input_format": "int8"},
        {"n_codebooks": 8, "n_outputs": 2, "rows": 8, "input_format": "int8"},
        {"n_codebooks": 4, "n_outputs": 4, "parallel_codebooks": 4, "input_format": "int8"},
        {"n_codebooks": 8, "n_outputs": 2, "parallel_codebooks": 8, "input_format": "int8",
         "tree_levels_per_stage": 2},
        {"n_codebooks": 8, "n_outputs": 4, "parallel_codebooks": 8, "rows": 2,
         "input_format": "int8", "look_up_adder_levels": 2},
        {"n_codebooks": 4, "n_outputs": 8, "parallel_codebooks": 4, "rows": 2,
         "input_format": "int8", "lut_bits": 4},
        {"n_codebooks": 8, "n_outputs": 4, "parallel_codebooks": 8, "rows": 4,
         "n_prototypes": 8, "input_format": "int8", "tree_levels_per_stage": 3},
        {"n_codebooks": 8, "n_outputs": 8, "parallel_codebooks": 8, "rows": 4,
         "input_format": "int8", "tree_levels_per_stage": 4},
        {"n_codebooks": 8, "n_outputs": 4, "parallel_codebooks": 2, "rows": 2,
         "input_format": "int8"},
        {"n_codebooks": 16, "n_outputs": 2, "input_format": "fp16"},
    ]  # fmt: skip
    return [AcceleratorConfig(**{"encoder": "pipelined", **values}) for values in axes]


def measure_point(config: AcceleratorConfig, platform: Any, options: Any, build: Path) -> Point:
    """Synthesise, time and power a configuration; unchanged results are read, not made again."""
    from flow.designs.design import accelerator
    from flow.measure import measure

    metrics, _ = measure(accelerator(config), platform, options, build)
    measured = {target: metrics.values.get(name) for target, name in TARGETS.items()}
    return Point(config=config, measured=measured, provenance=metrics.provenance)


def _fit(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from flow.cells.platform_file import read_platform
    from flow.run.options import RunOptions

    platform = read_platform(arguments.platform)
    options = RunOptions(clock_ns=arguments.clock_ns, target_ns=arguments.target_ns)
    configs = [AcceleratorConfig.from_yaml(path) for path in arguments.config]
    configs += training_configs()
    points = [
        measure_point(config, platform, options, Path(arguments.build))
        for config in tqdm(configs, unit="configuration", disable=not sys.stderr.isatty())
    ]
    model = fit(points)
    path = Path(arguments.output or _model_path(platform.name))
    model.save(path)
    for target, error in model.errors.items():
        print(
            f"{target:22} left-out error: mean {error.mean:.1%}, largest {error.largest:.1%}, "
            f"{error.points} configurations"
        )
    print(f"wrote {path}")
    return 0


def _model_path(platform: str) -> Path:
    return Path(__file__).parents[1] / "models" / f"{platform}.json"


@cache
def shipped_model(platform: str) -> Model | None:
    """The model that was fitted to a platform; None where there is none."""
    path = _model_path(platform)
    return Model.load(path) if path.is_file() else None


def _estimate(arguments: argparse.Namespace) -> int:
    model = Model.load(arguments.model or _model_path(arguments.platform))
    config = AcceleratorConfig.from_yaml(arguments.config)
    estimate = dataclasses.asdict(model.estimate(config))
    print(f"{config.name}: modelled, not measured ({json.dumps(dict(model.conditions))})")
    for name, value in estimate.items():
        error = model.errors.get(name)
        stated = f"  (left-out error: mean {error.mean:.0%})" if error else ""
        print(f"  {name:28} {value:12.5g}{stated}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``python -m flow model``; returns the exit status."""
    parser = Parser(
        prog="python -m flow model",
        description="Estimate area, energy and period of a configuration without synthesis, "
        "or fit the estimate to synthesised configurations.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="estimate|fit")
    estimate = commands.add_parser("estimate", help="estimate one configuration")
    add = estimate.add_argument
    add("--config", required=True, metavar="FILE", help="configuration (.yaml)")
    add("--platform", default="nangate45", metavar="NAME", help="platform of a shipped model")
    add("--model", metavar="FILE", help="model file (default: the platform's shipped one)")
    estimate.set_defaults(act=_estimate)
    train = commands.add_parser("fit", help="synthesise a set of configurations and fit to them")
    add = train.add_argument
    add("--config", nargs="*", default=[], metavar="FILE",
        help="configurations to add to the built-in set (default: none)")  # fmt: skip
    add("--platform", default="nangate45", metavar="NAME", help="platform")
    add("--clock-ns", type=float, default=6.0, metavar="NS",
        help="clock period in ns of the energy")  # fmt: skip
    add("--target-ns", type=float, default=1.1, metavar="NS",
        help="clock period in ns that netlists are made for")  # fmt: skip
    add("--build", default="build", metavar="DIR", help="folder of products")
    add("-o", "--output", metavar="FILE", help="model file (default: the platform's shipped one)")
    train.set_defaults(act=_fit)
    arguments = parser.parse_args(argv)
    return arguments.act(arguments)
