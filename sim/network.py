"""Runs the layers of a trained network on the accelerator's Verilog, tile by tile.

The results that the Verilog returns flow onward through the network, so that every layer works
on what the hardware made of the layers before it. Each layer's results, and the network's
outputs, are compared, bit by bit, with those of the same network in torch alone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from halut.checks import integer_from
from halut.errors import CheckFailed, HalutError
from halut.program import Program
from halut.tiles import Tiling, tile, widen
from rtl_gen import reference
from rtl_gen.tiled_config import AnyConfig
from sim import runner
from sim.simulation import simulate_all

if TYPE_CHECKING:
    from torch import Tensor, nn

    from halut.nn.layers import HalutLayer

__all__ = ["LayerRun", "NetworkResult", "report", "simulate_network"]

_WORD_BYTES = 1 << 28  # input words of one simulation; a large layer takes several


@dataclass(kw_only=True)
class LayerRun:
    """One layer on the accelerator, over all images.

    Attributes
    ----------
    name : str
        Its name in the network.
    n_codebooks, n_outputs, groups : int
        C and M of a group, and the number of groups.
    tiles : int
        Programs that the layer takes.
    rows : int
        Rows of all groups.
    outputs : int
        Results compared.
    cycles, load_cycles : int
        Clock cycles with rows, and of loading the programs (for every batch anew).
    seconds : float
        Wall-clock time of simulation.
    """

    name: str
    n_codebooks: int
    n_outputs: int
    groups: int
    tiles: int
    rows: int = 0
    outputs: int = 0
    cycles: int = 0
    load_cycles: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class NetworkResult:
    """What came out of the network; every result and output equals torch's.

    Attributes
    ----------
    layers : tuple of LayerRun
        In the order of the model's modules.
    outputs : float32 ndarray of shape (n_images, n_classes)
    simulator : str
    """

    layers: tuple[LayerRun, ...]
    outputs: NDArray[np.float32]
    simulator: str

    @property
    def classes(self) -> NDArray[np.intp]:
        """Predicted class of every image, (n_images,)."""
        return self.outputs.argmax(axis=1)


def simulate_network(
    config: AnyConfig,
    model: nn.Module,
    images: Tensor,
    *,
    batch: int = 100,
    verilog: Path | str | None = None,
    simulator: str | None = None,
    stall_pattern: str = "none",
    seed: int = 1,
    timeout_s: float = runner.DEFAULT_TIMEOUT_S,
) -> NetworkResult:
    """Run every converted layer of a network on the accelerator, in simulation.

    Parameters
    ----------
    config : AcceleratorConfig or TiledConfig
        The accelerator. Its K, input format and table bits must be at least those of every layer
        (`halut.tiles.widen`); any C and M are cut into tiles, loaded one after the other. Tables of
        half floats with their order of additions, overflow and the output stage must be those of
        every layer, and with the latter two C at least the layer's.
    model : torch.nn.Module
        A network with converted, exact layers (`halut.nn.network.load_network`).
    images : Tensor of shape (n_images, ...)
        Inputs of the network.
    batch : int, default 100
        Images that go through the network together.
    verilog, simulator, stall_pattern, seed, timeout_s
        As for `sim.simulate`; the limit is for each simulation.

    Returns
    -------
    NetworkResult

    Raises
    ------
    CheckFailed
        When a result or an output differs from torch's; the message names the layer.
    HalutError
        When a layer is not exact or does not fit the configuration; the message names it.
    """
    from halut.nn import need_torch

    need_torch()
    import torch

    from halut.nn.network import check_exact, halut_layers

    integer_from("batch", batch, 1)
    if len(images) < 1:
        raise HalutError("images must be at least one, not 0")
    layers = halut_layers(model)
    check_exact(layers)
    tilings = {name: _tilings(config, name, layer) for name, layer in layers.items()}
    runs = {
        name: LayerRun(
            name=name,
            n_codebooks=layer.n_codebooks,
            n_outputs=layer.n_outputs,
            groups=layer.groups,
            tiles=sum(len(tiling.tiles) for tiling in tilings[name]),
        )
        for name, layer in layers.items()
    }
    settings = {
        "verilog": verilog,
        "simulator": simulator or runner.pick_simulator(),
        "stall_pattern": stall_pattern,
        "seed": seed,
        "timeout_s": timeout_s,
    }
    accelerator = _Accelerator(config, tilings, runs, settings)
    outputs: list[NDArray[np.float32]] = []
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad(), _progress(len(layers) * -(-len(images) // batch)) as advance:
            for first in range(0, len(images), batch):
                part = images[first : first + batch]
                accelerator.wanted, expected = _in_torch(model, layers, part)
                with _executing(layers, accelerator, advance):
                    given = model(part)
                for name, calls in accelerator.wanted.items():
                    if calls:
                        raise CheckFailed(f"every call must reach the accelerator (layer {name})")
                _check_outputs(given, expected, first)
                outputs.append(given.float().cpu().numpy())
    finally:
        for module, mode in training.items():
            module.training = mode
    idle = [run.name for run in runs.values() if not run.rows]
    if idle:
        raise HalutError(f"forward pass must reach every converted layer, not miss {idle[0]}")
    return NetworkResult(
        layers=tuple(runs.values()),
        outputs=np.concatenate(outputs),
        simulator=str(settings["simulator"]),
    )


def report(
    result: NetworkResult, config: AnyConfig, labels: NDArray[np.integer] | None
) -> dict[str, Any]:
    """Return what was run and counted as JSON has it; `labels` are the true classes, if known."""
    return {
        "configuration": config.to_dict(),
        "simulator": result.simulator,
        "images": len(result.classes),
        "accuracy": None if labels is None else float((result.classes == labels).mean()),
        "classes": result.classes.tolist(),
        "results": sum(layer.outputs for layer in result.layers),
        "cycles": sum(layer.cycles for layer in result.layers),
        "load_cycles": sum(layer.load_cycles for layer in result.layers),
        "layers": [asdict(layer) for layer in result.layers],
    }


def _tilings(config: AnyConfig, name: str, layer: HalutLayer) -> list[Tiling]:
    programs = layer.programs()
    sizes: dict[str, Any] = {
        "n_prototypes": config.n_prototypes,
        "input_format": config.input_format,
        "lut_bits": config.lut_bits,
        "terms": config.terms,
        "window": config.window,
        "splits": config.splits,
    }
    try:
        _check_sums(config, layer, programs[0])
        return [
            tile(widen(program, **sizes), config.n_codebooks, config.n_outputs)
            for program in programs
        ]
    except HalutError as error:
        raise HalutError(f"{error} (layer {name}, configuration {config.name})") from None


def _check_sums(config: AnyConfig, layer: HalutLayer, program: Program) -> None:
    """Check that the accelerator adds up as the layer does, and does the same with the sums."""
    wanted: dict[str, Any] = {
        name: getattr(config, name) for name in ("lut_format", "output_format", "relu")
    }
    given: dict[str, Any] = {name: getattr(program, name) for name in wanted}
    overflow, n_codebooks = layer.config.overflow, program.n_codebooks
    too_narrow = config.accumulator_bits < program.accumulator_bits
    if overflow is not None or (config.overflow is not None and too_narrow):
        wanted |= {"overflow": config.overflow, "acc_bits": config.accumulator_bits}
        given |= {"overflow": overflow, "acc_bits": layer.config.acc_bits}
    if config.overflow is not None and config.n_codebooks < n_codebooks:
        raise HalutError(
            f"program.n_codebooks must be at most the accelerator's {config.n_codebooks}, whose "
            f"accumulators {config.overflow}, not {n_codebooks}"
        )
    if program.lut_format == "fp16" or overflow == "saturate":
        wanted["parallel_codebooks"] = config.parallel_codebooks
        given["parallel_codebooks"] = layer.config.parallel_codebooks
    if program.lut_format == "fp16":
        wanted["codebook_tiles"] = config.codebook_tiles
        given["codebook_tiles"] = layer.config.codebook_tiles
        # Ranges of codebooks that are loaded one after the other, where their sums add up.
        loaded = layer.config.codebooks_per_load or n_codebooks
        adds_up = program.output_format == "raw" and not program.relu
        if adds_up and min(loaded, config.n_codebooks) < n_codebooks:
            wanted["codebooks_per_load"] = config.n_codebooks
            given["codebooks_per_load"] = layer.config.codebooks_per_load
    for field_name, value in wanted.items():
        if given[field_name] != value:
            raise HalutError(
                f"layer's {field_name} must be the accelerator's {value}, not {given[field_name]}"
            )


def _in_torch(
    model: nn.Module, layers: dict[str, HalutLayer], x: Tensor
) -> tuple[dict[str, list[NDArray[Any]]], Tensor]:
    """Return the results of every layer's calls, and the output, of torch alone."""
    results: dict[str, list[NDArray[Any]]] = {name: [] for name in layers}

    def watch(name: str, layer: HalutLayer) -> Any:
        def hook(_: Any, args: tuple[Any, ...]) -> None:
            results[name].append(layer.results(args[0]).cpu().numpy())

        return layer.register_forward_pre_hook(hook)

    hooks = [watch(name, layer) for name, layer in layers.items()]
    try:
        return results, model(x)
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _executing(
    layers: dict[str, HalutLayer], accelerator: _Accelerator, advance: Callable[[str], None]
) -> Iterator[None]:
    """Let the accelerator compute the layers' results."""
    import torch

    def executor(name: str) -> Callable[[HalutLayer, Tensor], Tensor]:
        def execute(layer: HalutLayer, x: Tensor) -> Tensor:
            advance(name)
            return torch.from_numpy(accelerator.run(name, layer.rows(x))).to(x.device)

        return execute

    before = {name: layer.executor for name, layer in layers.items()}
    try:
        for name, layer in layers.items():
            layer.executor = executor(name)
        yield
    finally:
        for name, layer in layers.items():
            layer.executor = before[name]


@dataclass
class _Accelerator:
    """Runs layers in simulation, and counts; `wanted` holds torch's results, call by call."""

    config: AnyConfig
    tilings: dict[str, list[Tiling]]
    runs: dict[str, LayerRun]
    settings: dict[str, Any]
    wanted: dict[str, list[NDArray[Any]]] = field(default_factory=dict)

    def run(self, name: str, rows: Tensor) -> NDArray[Any]:
        """Return a layer's results (G, N, M) of rows (G, N, D)."""
        matrices = (rows if rows.dtype.itemsize == 8 else rows.float()).cpu().numpy()
        tilings, count = self.tilings[name], self.runs[name]
        jobs = [
            (program, matrix)
            for tiling, matrix in zip(tilings, matrices, strict=True)
            for program in tiling.tiles
        ]
        size = 2 * matrices.shape[1] * self.config.n_codebooks * self.config.n_values
        at_once = max(1, _WORD_BYTES // size)
        results = []
        try:
            for first in range(0, len(jobs), at_once):
                done = simulate_all(
                    self.config, jobs[first : first + at_once], check=False, **self.settings
                )
                count.seconds += done[0].seconds
                results += done
        except HalutError as error:
            raise type(error)(f"{error} (layer {name})") from None
        count.rows += matrices.shape[0] * matrices.shape[1]
        count.cycles += sum(result.cycles for result in results)
        count.load_cycles += sum(result.load_cycles for result in results)
        parts = iter(results)
        joined = np.stack(
            [tiling.join([next(parts).outputs for _ in tiling.tiles]) for tiling in tilings]
        )
        count.outputs += joined.size
        _check_results(name, joined, self.wanted[name].pop(0))
        return joined


def _check_results(name: str, given: NDArray[Any], wanted: NDArray[Any]) -> None:
    if given.shape != wanted.shape:
        raise CheckFailed(
            f"results must have shape {wanted.shape}, not {given.shape} (layer {name})"
        )
    wrong = np.argwhere(reference.result_words(given) != reference.result_words(wanted))
    if len(wrong):
        group, row, output = wrong[0]
        raise CheckFailed(
            f"results must equal torch's: layer {name}, row {row}, output "
            f"{group * given.shape[2] + output} must be {wanted[tuple(wrong[0])]}, "
            f"not {given[tuple(wrong[0])]} ({len(wrong)} of {given.size} differ)"
        )


def _check_outputs(given: Tensor, wanted: Tensor, first: int) -> None:
    wrong = (given != wanted).nonzero()
    if not len(wrong):
        return
    place = tuple(wrong[0].tolist())
    image = place[0]
    classes = int(wanted[image].argmax()), int(given[image].argmax())
    raise CheckFailed(
        f"outputs must equal torch's: image {first + image}, output {place[1]} must be "
        f"{float(wanted[place])!r}, not {float(given[place])!r} (class {classes[0]} and "
        f"{classes[1]}; {len(wrong[:, 0].unique())} of {len(given)} images differ)"
    )


@contextmanager
def _progress(steps: int) -> Iterator[Callable[[str], None]]:
    """Yield a function that shows which layer is worked on, on a terminal only."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from tqdm import tqdm

    with tqdm(total=steps, unit="layer", leave=False) as bar:

        def advance(name: str) -> None:
            bar.set_postfix_str(name)
            bar.update()

        yield advance
