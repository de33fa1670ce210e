"""A space of configurations to search: axes, a base, data to learn from, a rule for pruning.

A space is a YAML file::

    version: 1
    name: digits
    data: {builtin: digit_classes}
    base: {encoder: pipelined, input_format: int8, platform: nangate45, clock_ns: 2}
    axes:
      n_codebooks: [8, 16]
      rows: [1, 2, 4]
    prune: {margin: mean}

Every combination of the axes' values, on top of the base, is a point. Fields are those of
`rtl_gen.AcceleratorConfig`, and those of `FLOW_FIELDS`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halut import problems
from halut.arrays import load_matrix, training_pair
from halut.checks import integer_from, known, located, mapping, one_of, read_fields, read_yaml
from halut.errors import HalutError
from halut.matmul import HalutMatmul
from rtl_gen.config import AcceleratorConfig

__all__ = [
    "BUILD",
    "BUILTIN",
    "FLOW_FIELDS",
    "OBJECTIVES",
    "Data",
    "Prune",
    "Space",
    "SpacePoint",
    "default_results",
]

SPACE_VERSION = 1
BUILD = Path("build") / "sweep"
"""Folder of finished points, of what was learned, and of results."""

FLOW_FIELDS: dict[str, Any] = {
    "platform": "generic",
    "corner": None,
    "clock_ns": 6.0,
    "target_ns": None,
    "layout": "none",
}
"""What a point has besides its configuration, with defaults: see `flow.run.options.RunOptions`."""

LAYOUTS = ("none", "placed", "routed")

OBJECTIVES = ("error", "area", "energy", "throughput")
MARGINS = ("mean", "largest")
MAX_POINTS = 100_000
_CONFIG_FIELDS = tuple(f.name for f in dataclasses.fields(AcceleratorConfig) if f.name != "name")
_LEARNING = tuple(
    name for name in inspect.signature(HalutMatmul).parameters if name not in ("C", "K")
)
BUILTIN: dict[str, Callable[[], tuple[problems.Problem, NDArray[np.int64] | None]]] = {
    "digits": lambda: (problems.digits(), None),
    "digit_classes": problems.digit_classes,
    "low_rank": lambda: (problems.low_rank(), None),
    "uniform": lambda: (problems.uniform(), None),
}
"""Data that needs no files; `digit_classes` has labels, and so an accuracy."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Data:
    """A product to learn, and rows to judge by."""

    name: str
    train: NDArray[np.float32]  #: Shape (n_rows, n_features).
    test: NDArray[np.float32]  #: Shape (n_test_rows, n_features): rows that learning does not see.
    B: NDArray[np.float32]  #: Shape (n_features, n_outputs).
    #: Shape (n_test_rows,), optional: the column of the product that should be the largest.
    labels: NDArray[np.int64] | None = None

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of shapes and values."""
        found = hashlib.sha256()
        for array in (self.train, self.test, self.B, self.labels):
            if array is not None:
                found.update(str(array.shape).encode())
                found.update(np.ascontiguousarray(array).tobytes())
        return found.hexdigest()

    @classmethod
    def builtin(cls, name: str) -> Data:
        """One of `BUILTIN`."""
        one_of("builtin", name, BUILTIN)
        problem, labels = BUILTIN[name]()
        return cls(
            name=name,
            train=problem.train.astype(np.float32),
            test=problem.test.astype(np.float32),
            B=problem.B.astype(np.float32),
            labels=labels,
        )

    @classmethod
    def from_files(cls, a: Path, b: Path, test: Path | None = None) -> Data:
        """Matrices from ``.npy`` files; without test rows the last fifth of A is held out."""
        rows, B = training_pair(load_matrix("a", a), load_matrix("b", b), 1)
        if test is not None:
            held_out, _ = training_pair(load_matrix("test", test), B, 1)
        else:
            if len(rows) < 5:
                raise HalutError(
                    f"a must have at least 5 rows to hold some out, not {len(rows)} ({a})"
                )
            rows, held_out = np.split(rows, [len(rows) - len(rows) // 5])
        if not held_out.astype(np.float64).any() or not (held_out @ B).any():
            raise HalutError(f"the product of the test rows must not be all zero ({test or a})")
        return cls(name=a.stem, train=rows, test=held_out, B=B)


@dataclass(frozen=True, kw_only=True)
class Prune:
    """When a point is not worth its synthesis.

    A point is pruned when another one of the same platform, corner, clock and target is at least
    as good in every objective, and in the modelled ones (area, energy) by more than the model's
    error on both sides.
    """

    #: The model's relative error to allow for: its "mean" or "largest" left-out error, or a number
    #: in [0, 1).
    margin: str | float = "mean"
    #: What counts; among `OBJECTIVES`. `error` counts where there is data.
    objectives: tuple[str, ...] = OBJECTIVES

    def __post_init__(self) -> None:
        margin = self.margin
        number = isinstance(margin, (int, float)) and not isinstance(margin, bool)
        if not (margin in MARGINS if isinstance(margin, str) else number and 0 <= margin < 1):
            raise HalutError(
                f"margin must be {' or '.join(MARGINS)} or a number in [0, 1), not {margin!r}"
            )
        if not isinstance(self.objectives, (list, tuple)) or not self.objectives:
            raise HalutError(f"objectives must be a list with entries, not {self.objectives!r}")
        known("objectives", self.objectives, OBJECTIVES, _AMONG)
        object.__setattr__(self, "objectives", tuple(self.objectives))


@dataclass(frozen=True, kw_only=True)
class SpacePoint:
    """A combination of a space."""

    index: int  #: Its place in the space: the last axis runs fastest.
    values: Mapping[str, Any]  #: The combination: axes over base.
    config: AcceleratorConfig | None  #: None when the combination is invalid.
    #: See `flow.run.options.RunOptions`; `target_ns` is never None.
    platform: str
    corner: str | None
    clock_ns: float
    target_ns: float
    layout: str = "none"
    #: Why the combination is invalid, in the configuration's own words; else empty.
    skipped: str = ""


_AMONG = "be among {}"


@dataclass(frozen=True, kw_only=True)
class Space:
    """What to search."""

    name: str  #: Letters, digits, ``_`` and ``-``: names the folder of the results.
    axes: Mapping[str, Sequence[Any]]  #: Values per field; every combination is a point.
    #: Values of fields that all points share.
    base: Mapping[str, Any] = field(default_factory=dict)
    #: ``{builtin: NAME}``, or ``{a: FILE, b: FILE, test: FILE}`` with ``.npy`` files (`test` may be
    #: absent). With data, `n_outputs` is the columns of B, and `codebook_width` the columns of A
    #: per codebook unless it is given.
    data: Mapping[str, Any] | None = None
    #: Arguments of `halut.HalutMatmul` besides C and K.
    learning: Mapping[str, Any] = field(default_factory=dict)
    prune: Prune | None = None  #: None: every valid point is synthesised.
    seed: int = 1  #: Of initial states, and of programs and rows where there is no data.

    def __post_init__(self) -> None:
        AcceleratorConfig(name=self.name)
        fields = (*_CONFIG_FIELDS, *FLOW_FIELDS)
        axes, base = mapping("axes", self.axes), mapping("base", self.base)
        known("axes", axes, fields, _AMONG)
        known("base", base, fields, _AMONG)
        for name, values in axes.items():
            if not isinstance(values, (list, tuple)) or not values:
                raise HalutError(f"axes.{name} must be a list with values, not {values!r}")
            if len({repr(value) for value in values}) < len(values):
                raise HalutError(f"axes.{name} must not have a value twice, unlike {values!r}")
            if name in base:
                raise HalutError(f"{name} must be in axes or in base, not in both")
            axes[name] = tuple(values)
        size = math.prod(len(values) for values in axes.values())
        if size > MAX_POINTS:
            raise HalutError(f"axes must span at most {MAX_POINTS:,} points, not {size:,}")
        for name, values in (*axes.items(), *((name, (value,)) for name, value in base.items())):
            if name in ("clock_ns", "target_ns"):
                for value in values:
                    number = isinstance(value, (int, float)) and not isinstance(value, bool)
                    if not number or not 0 < value < 1e6:
                        raise HalutError(f"{name} must be a positive number of ns, not {value!r}")
            if name == "layout":
                known("layout", values, LAYOUTS, _AMONG)
            if name in ("platform", "corner") and not all(isinstance(v, str) for v in values):
                raise HalutError(f"{name} must be text, not {values!r}")
        if self.data is not None:
            data = mapping("data", self.data)
            known("data", data, ("builtin", "a", "b", "test"), _AMONG)
            if set(data) - {"test"} not in ({"builtin"}, {"a", "b"}) or {"builtin", "test"} <= set(
                data
            ):
                raise HalutError(
                    f"data must have either builtin, or a and b (and test), not {sorted(data)}"
                )
            if not all(isinstance(value, str) for value in data.values()):
                raise HalutError(f"data must name files or built-in data, not {data!r}")
            if "n_outputs" in axes or "n_outputs" in base:
                raise HalutError("n_outputs must be absent with data: it is the columns of B")
            for name in ("output_format", "relu"):
                if name in axes or name in base:
                    raise HalutError(f"{name} must be absent with data: results are compared raw")
            object.__setattr__(self, "data", data)
        learning = mapping("learning", self.learning)
        known("learning", learning, _LEARNING, _AMONG)
        HalutMatmul(**learning)
        if self.prune is not None and not isinstance(self.prune, Prune):
            raise HalutError(f"prune must be a mapping, not {self.prune!r}")
        integer_from("seed", self.seed, 0)
        object.__setattr__(self, "axes", axes)
        object.__setattr__(self, "base", base)
        object.__setattr__(self, "learning", learning)

    @classmethod
    def from_yaml(cls, path: str | Path) -> Space:
        """Read a space; every error names the file. Files of data are relative to it."""
        values = read_yaml(path)
        with located(path):
            version = values.pop("version", None)
            if version != SPACE_VERSION:
                raise HalutError(f"version must be {SPACE_VERSION}, not {version!r}")
            data = values.get("data")
            if isinstance(data, Mapping):
                values["data"] = {
                    name: str(Path(path).parent / value)
                    if name != "builtin" and isinstance(value, str)
                    else value
                    for name, value in data.items()
                }
            return read_fields(cls, values)

    def load_data(self) -> Data | None:
        """The data, or None where the space has none."""
        if self.data is None:
            return None
        if "builtin" in self.data:
            return Data.builtin(self.data["builtin"])
        test = self.data.get("test")
        return Data.from_files(
            Path(self.data["a"]), Path(self.data["b"]), Path(test) if test else None
        )

    def points(self, data: Data | None) -> list[SpacePoint]:
        """All combinations, invalid ones with the reason."""
        found = []
        for index, combination in enumerate(itertools.product(*self.axes.values())):
            values = {**self.base, **dict(zip(self.axes, combination, strict=True))}
            flow = {**FLOW_FIELDS, **{k: v for k, v in values.items() if k in FLOW_FIELDS}}
            chosen = {k: v for k, v in values.items() if k not in FLOW_FIELDS}
            config, skipped = None, ""
            try:
                if data is not None:
                    chosen |= self._by_data(chosen, data)
                config = AcceleratorConfig(name=self.name, **chosen)
            except HalutError as error:
                skipped = str(error)
            clock = float(flow["clock_ns"])
            found.append(
                SpacePoint(
                    index=index,
                    values=chosen,
                    config=config,
                    platform=flow["platform"],
                    corner=flow["corner"],
                    clock_ns=clock,
                    target_ns=float(flow["target_ns"] or clock),
                    layout=flow["layout"],
                    skipped=skipped,
                )
            )
        return found

    @staticmethod
    def _by_data(chosen: Mapping[str, Any], data: Data) -> dict[str, int]:
        """Fields that follow from the data."""
        n_features, n_outputs = data.B.shape
        derived = {"n_outputs": n_outputs}
        if "codebook_width" not in chosen:
            n_codebooks = AcceleratorConfig(
                n_codebooks=chosen.get("n_codebooks", AcceleratorConfig.n_codebooks)
            ).n_codebooks
            if n_features % n_codebooks:
                raise HalutError(
                    f"n_codebooks must divide the columns of A, {n_features}, where codebook_width "
                    f"is absent, not {n_codebooks}"
                )
            derived["codebook_width"] = n_features // n_codebooks
        return derived


def default_results(space: Space, build: Path = BUILD) -> Path:
    """Where a sweep writes a space's results to."""
    return build / space.name / "results.parquet"
