"""Single-layer analysis: replace each layer alone, over a grid of codebooks C and prototypes K.

What each layer of a network bears, before anything is trained: the error of its output on test
images, and the network's accuracy with this one layer replaced and all others exact. Points that
are done are kept, line by line, in ``points.jsonl``; a study that was interrupted goes on there.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import logging
import math
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from halut.checks import known
from halut.errors import HalutError
from halut.files import locked
from halut.nn.config import LayerConfig
from halut.nn.deviation import accuracy
from halut.nn.display import shown
from halut.nn.layers import learned_layer
from halut.nn.replace import replace_everywhere
from halut.nn.statistics import figure_of, save_figure
from halut.nn.study import Study, fingerprint
from halut.nn.watch import call_counts, evaluating, hooked

__all__ = ["Analysis", "Point", "analyse"]

_log = logging.getLogger(__name__)

KIND = "halut-analysis"
VERSION = 1
POINTS = "points.jsonl"
_BATCH = 64


@dataclass(frozen=True, kw_only=True)
class Point:
    """One layer, replaced alone.

    Attributes
    ----------
    layer, kind : str
        Its name and its class before.
    n_codebooks : int
        C, per group.
    codebook_width : int
        Features per codebook that were asked for: D / C, rounded.
    n_prototypes : int
        K.
    error : float or None
        ``|exact - looked up|**2 / |exact - mean|**2`` of its output on test images; None when
        it cannot be replaced so.
    accuracy : float or None
        Of the network on the test images, 0 to 1.
    table_bytes : int
    seconds : float
        Wall-clock time of learning and testing.
    reason : str
        Why it cannot be replaced so.
    """

    layer: str
    kind: str
    n_codebooks: int
    codebook_width: int
    n_prototypes: int
    error: float | None = None
    accuracy: float | None = None
    table_bytes: int = 0
    seconds: float = 0.0
    reason: str = ""

    @property
    def key(self) -> tuple[str, int, int]:
        """What no two points of a study share."""
        return self.layer, self.n_codebooks, self.n_prototypes


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """What `analyse` found.

    Attributes
    ----------
    base_accuracy : float
        Of the exact network on the test images.
    n_images : int
        Test images.
    points : tuple of Point
        By layer in forward order, C and K.
    """

    base_accuracy: float
    n_images: int
    points: tuple[Point, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON has it."""
        return {"kind": KIND, "version": VERSION, **asdict(self)}

    def csv(self) -> str:
        """Return the points as comma-separated values with a header."""
        out = io.StringIO()
        names = [field.name for field in dataclasses.fields(Point)]
        writer = csv.DictWriter(out, [*names, "accuracy_change"], lineterminator="\n")
        writer.writeheader()
        for point in self.points:
            change = None if point.accuracy is None else point.accuracy - self.base_accuracy
            writer.writerow(asdict(point) | {"accuracy_change": change})
        return out.getvalue()

    def __str__(self) -> str:
        width = max([len(point.layer) for point in self.points] + [5])
        lines = [
            f"exact network: accuracy {100 * self.base_accuracy:.2f} % of {self.n_images} images",
            f"{'layer':{width}} {'C':>6} {'K':>4} {'error':>8} {'accuracy':>9} {'change':>7} "
            f"{'table bytes':>12}",
        ]
        for point in self.points:
            line = f"{point.layer:{width}} {point.n_codebooks:6} {point.n_prototypes:4} "
            if point.accuracy is None or point.error is None:
                lines.append(f"{line}no: {point.reason}")
                continue
            change = 100 * (point.accuracy - self.base_accuracy)
            lines.append(
                f"{line}{point.error:8.4f} {100 * point.accuracy:9.2f} {change:+7.2f} "
                f"{point.table_bytes:12}"
            )
        return "\n".join(lines)

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw accuracy (solid) and error (dashed) over C, one picture per layer, one line per K.

        Raises
        ------
        HalutError
            When matplotlib is not installed, or does not know the format of the suffix.
        """
        layers = list(dict.fromkeys(point.layer for point in self.points))
        figure, axes = figure_of(len(layers))
        for axis, layer in zip(axes, layers, strict=False):
            right = axis.twinx()
            found = [p for p in self.points if p.layer == layer and p.error is not None]
            for index, size in enumerate(sorted({point.n_prototypes for point in found})):
                points = [point for point in found if point.n_prototypes == size]
                counts = [point.n_codebooks for point in points]
                accuracies = [100 * (point.accuracy or 0.0) for point in points]
                axis.plot(counts, accuracies, "o-", color=f"C{index}", label=f"K = {size}")
                right.plot(counts, [point.error for point in points], "x--", color=f"C{index}")
            axis.axhline(100 * self.base_accuracy, color="grey", linewidth=0.8)
            axis.set_title(layer, fontsize=9)
            axis.set_xlabel("codebooks C")
            axis.set_xscale("log", base=2)
            axis.set_ylabel("accuracy in %")
            right.set_ylabel("error (dashed)")
            if found:
                axis.legend(fontsize=7)
        save_figure(figure, path)


def analyse(
    model: nn.Module,
    calibration: Tensor,
    test_x: Tensor,
    test_y: Tensor,
    folder: str | os.PathLike[str],
    *,
    num_c: Sequence[int | float] = (0.5, 1.0, 2.0),
    num_k: Sequence[int] = (8, 16, 32),
    config: LayerConfig | None = None,
    layers: Sequence[str] | None = None,
    progress: bool = False,
) -> Analysis:
    """Replace each layer alone over a grid.

    Parameters
    ----------
    model : nn.Module
        A classifier with plain `nn.Conv2d` and `nn.Linear` layers; not changed.
    calibration : float32 Tensor of shape (n_images, ...)
        Inputs to learn from.
    test_x, test_y : Tensor
        Inputs and their classes.
    folder : path-like
        Where points are kept; those of the same study that lie there are not computed again.
    num_c : sequence of int or float
        Codebooks: an int is their number, a float a multiple of the layer's usual number (see
        `LayerConfig`). The nearest number that codebooks of equal width make is taken.
    num_k : sequence of int
        Prototypes, powers of two from 2 to 256.
    config : LayerConfig, optional
        Everything else.
    layers : sequence of str, optional
        Names of the layers; all when absent.
    progress : bool, default False
        Show a progress bar, on a terminal only.

    Returns
    -------
    Analysis

    Raises
    ------
    HalutError
        When a setting breaks its rule, a layer is unknown, or `folder` holds another study, or
        another process works in it.
    """
    config = config or LayerConfig()
    for name, images in (("calibration", calibration), ("test_x", test_x)):
        if not len(images):
            raise HalutError(f"{name} must have at least one image, not 0")
    if len(test_y) != len(test_x):
        raise HalutError(f"test_y must have {len(test_x)} classes, not {len(test_y)}")
    modules = _layers(model, layers, calibration)
    grid = _grid(modules, num_c, num_k, config)
    with evaluating(model), locked(folder, wait=False):
        base = accuracy(model, test_x, test_y, _BATCH)
        study = {
            "kind": KIND,
            "version": VERSION,
            "network": fingerprint(model.state_dict().values()),
            "images": fingerprint([calibration, test_x, test_y]),
            "config": config.to_dict(),
        }
        kept = Study(Path(folder) / POINTS, study)
        try:
            done = {point.key: point for point in (Point(**one) for one in kept.results)}
        except TypeError:
            raise HalutError(f"points must have known fields ({folder}/{POINTS})") from None
        todo = [point for point in grid if point.key not in done]
        inputs: tuple[str, list[Tensor]] = ("", [])
        for index, point in enumerate(shown(todo, "analysing", "point", progress)):
            if inputs[0] != point.layer:
                inputs = (point.layer, _inputs(model, modules[point.layer], calibration))
            found = _measure(model, modules[point.layer], point, inputs[1], config,
                             test_x, test_y)  # fmt: skip
            done[point.key] = found
            kept.add(asdict(found))
            _log.info("point %d of %d: %s", index + 1, len(todo), found)
    points = tuple(done[point.key] for point in grid)
    return Analysis(base_accuracy=base, n_images=len(test_y), points=points)


def _layers(
    model: nn.Module, wanted: Sequence[str] | None, calibration: Tensor
) -> dict[str, nn.Module]:
    """Return the layers to replace in the order in which they are called."""
    plain = {
        name: part
        for name, part in model.named_modules()
        if isinstance(part, (nn.Conv2d, nn.Linear))
    }
    found = {name: plain[name] for name in call_counts(model, plain, calibration[:1])}
    if not found:
        raise HalutError("network must have plain convolutions or linear layers, not none "
                         "(analyse the network before it is converted)")  # fmt: skip
    if wanted is not None and not wanted:
        raise HalutError("layers must name at least one layer, not none")
    known("layer", wanted or (), found, "be one of the network's")
    return {name: part for name, part in found.items() if wanted is None or name in wanted}


def _grid(
    modules: dict[str, nn.Module],
    num_c: Sequence[int | float],
    num_k: Sequence[int],
    config: LayerConfig,
) -> list[Point]:
    for value in num_c:
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < 2**31:
            raise HalutError(f"num_c must be greater than 0, not {value!r}")
    if not num_c or not num_k:
        raise HalutError("num_c and num_k must each have at least one value, not none")
    for size in num_k:
        dataclasses.replace(config, n_prototypes=size)  # checks it
    points: dict[tuple[str, int, int], Point] = {}
    for name, module in modules.items():
        area = 1
        if isinstance(module, nn.Conv2d):
            area = module.kernel_size[0] * module.kernel_size[1]
            n_features = module.in_channels // module.groups * area
        else:
            assert isinstance(module, nn.Linear)
            n_features = module.in_features
        usual = dataclasses.replace(config, codebook_width=None).codebooks(n_features, area)
        choices: dict[int, int] = {}
        for value in num_c:
            count = value if isinstance(value, int) else value * usual
            width = max(1, round(n_features / count))
            wide = dataclasses.replace(config, codebook_width=width)
            choices.setdefault(wide.codebooks(n_features, area), width)
        for count, width in sorted(choices.items()):
            for size in sorted(set(num_k)):
                point = Point(layer=name, kind=type(module).__name__, n_codebooks=count,
                              codebook_width=width, n_prototypes=size)  # fmt: skip
                points[point.key] = point
    return list(points.values())


@torch.no_grad()
def _inputs(model: nn.Module, module: nn.Module, calibration: Tensor) -> list[Tensor]:
    """Return what a layer is called with."""
    found: list[Tensor] = []
    with hooked([module.register_forward_pre_hook(lambda _, args: found.append(args[0]))]):
        for images in calibration.split(_BATCH):
            model(images)
    return found


def _measure(
    model: nn.Module,
    module: nn.Module,
    point: Point,
    inputs: list[Tensor],
    config: LayerConfig,
    test_x: Tensor,
    test_y: Tensor,
) -> Point:
    begin = time.perf_counter()
    config = dataclasses.replace(
        config, codebook_width=point.codebook_width, n_prototypes=point.n_prototypes
    )
    try:
        layer = learned_layer(module, inputs, config)
    except HalutError as error:
        return dataclasses.replace(point, reason=str(error))
    assert layer.n_codebooks == point.n_codebooks
    sums = _Sums(module)
    replace_everywhere(model, module, layer)
    try:
        with hooked([layer.register_forward_hook(sums.add)]):
            kept = accuracy(model, test_x, test_y, _BATCH)
    finally:
        replace_everywhere(model, layer, module)
    return dataclasses.replace(
        point,
        error=sums.error(),
        accuracy=kept,
        table_bytes=layer.table_bytes,
        seconds=round(time.perf_counter() - begin, 3),
    )


class _Sums:
    """Adds up the squared error of a layer's output, and the spread of the exact one."""

    def __init__(self, exact: nn.Module) -> None:
        self.exact = exact
        self.error_sum = self.n_values = 0.0
        self.total: Any = 0.0
        self.squares: Any = 0.0

    def add(self, _: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        exact = self.exact(*args).double()
        axis = 1 if isinstance(self.exact, nn.Conv2d) else exact.ndim - 1
        values = exact.movedim(axis, 0).flatten(1)  # (M, n)
        self.error_sum += float((exact - output).square().sum())
        self.n_values += values.shape[1]
        self.total = self.total + values.sum(dim=1)
        self.squares = self.squares + values.square().sum(dim=1)

    def error(self) -> float:
        spread = float((self.squares - self.total.square() / self.n_values).sum())
        return self.error_sum / spread if spread > 0 else math.inf if self.error_sum else 0.0
