"""`reconstruct_`: train a converted network to do what the exact one does, without labels.

Block by block, as BRECQ (arXiv 2102.05426) does for quantisation: tables, thresholds and constants
of the replaced layers and the norms around them are trained so that a block gives, for what it
really gets in the converted network, what its exact twin gave. Then end to end, by distillation.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from halut.checks import either, integer_at_least
from halut.errors import HalutError
from halut.files import locked
from halut.nn import files
from halut.nn.blocks import (
    Block,
    Inputs,
    blocks_of,
    inputs_of,
    only_trained,
    smaller_batches,
)
from halut.nn.deviation import Comparison, Likeness, exact_outputs, tensors_of
from halut.nn.display import shown
from halut.nn.imitation import Training, class_loss, copy_of, in_random_order, value_loss
from halut.nn.layers import HalutLayer, layers_of
from halut.nn.refit import refit_
from halut.nn.replace import as_written
from halut.nn.study import fingerprint, tensors_in
from halut.nn.watch import batches_of, evaluating, hooked, run_batch, spreads_of

__all__ = ["BlockRow", "Reconstruction", "ReconstructionReport", "reconstruct_"]

_log = logging.getLogger(__name__)

_KIND, _VERSION = "halut-reconstruction", 1
_FILE = "reconstruction.pt"
OUTPUTS = ("auto", "classes", "values")


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """How `reconstruct_` works.

    Parameters
    ----------
    refit : bool, default True
        Whether each block begins with tables learned again in closed form, see
        `halut.nn.refit.refit_`.
    block_steps : int, default 200
        Steps of training of each block, one batch each; 0 for none.
    distill_steps : int, default 200
        Steps of training of the whole network, one batch each; 0 for none.
    batch_size : int, default 16
        Items of a batch. Batches whose tensors do not all have as many items are not cut.
    rate : float, default 0.03
        Of Adam, as a share of each parameter's root mean square; falls to 0 along half a cosine.
    distill_rate : float, default 0.01
        The same for the whole network.
    temperature : float or None, default 0.3
        Of the surrogate gradient, as a share of the spread of what a layer's trees compare; None
        leaves temperatures as they are.
    layers_per_block : int, default 4
        Replaced layers in a block at most.
    outputs : {"auto", "classes", "values"}, default "auto"
        What distillation compares: distributions over classes, or values. ``"auto"``: classes
        where the network returns one tensor of two dimensions.
    max_rows : int, default 65536
        Rows of a layer at most that its tables are learned again from.
    seed : int, default 0
        Of the order of batches.

    Raises
    ------
    HalutError
        When a field breaks its rule.
    """

    refit: bool = True
    block_steps: int = 200
    distill_steps: int = 200
    batch_size: int = 16
    rate: float = 0.03
    distill_rate: float = 0.01
    temperature: float | None = 0.3
    layers_per_block: int = 4
    outputs: str = "auto"
    max_rows: int = 65536
    seed: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.refit, bool):
            raise HalutError(f"refit must be true or false, not {self.refit!r}")
        for name, low in (
            ("block_steps", 0), ("distill_steps", 0), ("batch_size", 1), ("layers_per_block", 1),
            ("max_rows", 1), ("seed", 0),
        ):  # fmt: skip
            integer_at_least(name, getattr(self, name), low)
        for name in ("rate", "distill_rate", "temperature"):
            value = getattr(self, name)
            if value is None and name == "temperature":
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise HalutError(f"{name} must be a number, not {value!r}")
            if not 0 < value < math.inf:
                raise HalutError(f"{name} must be greater than 0 and finite, not {value}")
        either("outputs", self.outputs, OUTPUTS)


@dataclass(frozen=True, kw_only=True)
class BlockRow:
    """What became of one block.

    Attributes
    ----------
    name : str
    layers : tuple of str
    before, refit, trained : float or None
        Error of its outputs beside the exact block's in the exact network, over their variance, on
        batches that were kept back: as it was, with tables learned again, after training. None for
        steps that were not asked for.
    seconds : float
    """

    name: str
    layers: tuple[str, ...]
    before: float
    refit: float | None = None
    trained: float | None = None
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class ReconstructionReport:
    """What `reconstruct_` reached.

    Attributes
    ----------
    rows : tuple of BlockRow
        In forward order.
    before, blocks, after : Likeness
        Of the network on held-out inputs: as it was, after all blocks, after distillation.
    """

    rows: tuple[BlockRow, ...] = field(default=())
    before: Likeness
    blocks: Likeness
    after: Likeness

    def to_json(self) -> str:
        """Return everything as a JSON object."""
        return json.dumps(asdict(self), indent=1)

    def __str__(self) -> str:
        width = max([len(row.name) for row in self.rows] + [7])
        lines = [f"{'block':{width}} {'before':>8} {'refit':>8} {'trained':>8} {'s':>6}"]
        for row in self.rows:
            found = (
                f"{'-':>8}" if value is None else f"{value:8.4f}"
                for value in (row.before, row.refit, row.trained)
            )
            lines.append(f"{row.name or '(all)':{width}} {' '.join(found)} {row.seconds:6.1f}")
        for what, like in (
            ("as it was", self.before), ("after the blocks", self.blocks),
            ("after distillation", self.after),
        ):  # fmt: skip
            error = "-" if like.output_error is None else f"{like.output_error:.4f}"
            lines.append(
                f"network {what}: {100 * like.agreement:.1f} % of decisions kept, "
                f"output error {error}"
            )
        return "\n".join(lines)


def reconstruct_(
    model: nn.Module,
    exact: nn.Module,
    inputs: Tensor | Iterable[Any],
    settings: Reconstruction | None = None,
    *,
    held_out: Tensor | Iterable[Any] | None = None,
    folder: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> ReconstructionReport:
    """Train a converted network, in place, to reproduce the exact one on unlabelled inputs.

    Only tables, thresholds (or centroids) and constants of replaced layers change, and what norms
    multiply and add, by gradients and in evaluation mode: dropout is off, and running statistics
    stay. Every fifth batch is kept back to judge by: a step that makes a block worse there is
    undone. The same arguments give the same bits on the same machine with as many threads.

    Parameters
    ----------
    model : nn.Module
        Converted; its mode, and which parameters train, are restored.
    exact : nn.Module
        The network that it was converted from, a copy that `convert_` did not change.
    inputs : Tensor, or iterable of batches
        As the calibration inputs of `halut.nn.convert_`.
    settings : Reconstruction, optional
    held_out : Tensor, or iterable of batches, optional
        Inputs that the report is about; when absent, the batches that were kept back.
    folder : path-like, optional
        Where the state is kept after every block and now and then in distillation; a call with
        the same networks, inputs and settings goes on there.
    progress : bool, default False
        Show progress bars, on a terminal only.

    Returns
    -------
    ReconstructionReport

    Raises
    ------
    HalutError
        When the model has no replaced layers, the networks do not belong together, inputs cannot
        be used, or `folder` holds another reconstruction. The model is then as it was, as after any
        interruption: with `folder`, the same call goes on.

    Examples
    --------
    >>> import copy
    >>> import torch
    >>> from torch import nn
    >>> from halut.nn import LayerConfig, convert_
    >>> _ = torch.manual_seed(0)
    >>> model = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4))
    >>> exact, x = copy.deepcopy(model), torch.randn(400, 16)
    >>> report = convert_(model, LayerConfig(n_prototypes=4), x)
    >>> found = reconstruct_(model, exact, x, Reconstruction(block_steps=20, distill_steps=0))
    >>> found.after.output_error < found.before.output_error
    True
    """
    settings = settings or Reconstruction()
    if not isinstance(settings, Reconstruction):
        raise HalutError(f"settings must be a Reconstruction, not {type(settings).__name__}")
    for name, one in (("model", model), ("exact", exact)):
        if not isinstance(one, nn.Module):
            raise HalutError(f"{name} must be an nn.Module, not {type(one).__name__}")
    model, exact = as_written(model), as_written(exact)
    layers = layers_of(model)
    if not layers:
        raise HalutError("model must have replaced layers, not none (convert_ makes them)")
    if layers_of(exact):
        raise HalutError(
            "exact must be the network before it was converted: copy.deepcopy(model), then convert_"
        )
    for name, layer in layers.items():
        if layer.raw_output or layer.input_bits:
            raise HalutError(f"model must not be folded yet (layer {name})")
    batches = smaller_batches(batches_of(inputs), settings.batch_size)
    unseen = None if held_out is None else smaller_batches(
        batches_of(held_out), settings.batch_size
    )  # fmt: skip
    work = _Work(model, exact, batches, unseen, settings, progress)
    with (
        torch.inference_mode(False), evaluating(model), evaluating(exact), _kept_on_error(model)
    ):  # fmt: skip
        if folder is None:
            return work.run(None)
        with locked(folder, wait=False):
            return work.run(Path(folder) / _FILE)


@contextmanager
def _kept_on_error(model: nn.Module) -> Iterator[None]:
    """Give a model its values back when the block ends with an exception."""
    before = copy_of(model)
    try:
        yield
    except BaseException:
        model.load_state_dict(before)
        raise


class _Work:
    """The steps of one reconstruction."""

    def __init__(
        self,
        model: nn.Module,
        exact: nn.Module,
        batches: list[Any],
        held_out: list[Any] | None,
        settings: Reconstruction,
        progress: bool,
    ) -> None:
        self.model, self.exact, self.settings, self.progress = model, exact, settings, progress
        self.batches = batches
        self.kept = list(range(len(batches)))[4::5] or [len(batches) - 1]
        self.used = [index for index in range(len(batches)) if index not in self.kept] or [0]
        self.held_out = held_out or [batches[index] for index in self.kept]

    def run(self, file: Path | None) -> ReconstructionReport:
        settings = self.settings
        study = self._study() if file is not None else ""
        blocks = blocks_of(self.model, self.exact, self.batches[0], settings.layers_per_block)
        if not blocks:
            raise HalutError("model must call its replaced layers in blocks that exact has too")
        taught = exact_outputs(self.exact, self.batches)
        comparison = Comparison(self.exact, self.held_out)
        state = _State(file, study)
        if not state.read(self.model):
            if settings.temperature is not None:
                self._set_temperatures(settings.temperature)
            state.content |= {"before": asdict(comparison.of(self.model)), "rows": []}
        rows = [BlockRow(**row) for row in state.content["rows"]]
        todo = blocks[len(rows) :]
        for block in shown(todo, "reconstructing", "block", self.progress):
            rows.append(self._block(block))
            state.content["rows"] = [asdict(row) for row in rows]
            state.write(self.model)
            _log.info("reconstructed %s", rows[-1])
        if "blocks" not in state.content:
            state.content["blocks"] = asdict(comparison.of(self.model))
            state.write(self.model)
        self._distill(state, taught)
        if "after" not in state.content:
            state.content["after"] = asdict(comparison.of(self.model))
            state.write(self.model)
        return ReconstructionReport(
            rows=tuple(rows),
            **{name: Likeness(**state.content[name]) for name in ("before", "blocks", "after")},
        )

    def _study(self) -> str:
        """Return what tells this reconstruction from others."""
        tensors = [*self.model.state_dict().values(), *self.exact.state_dict().values()]
        inputs = tensors_in([*self.batches, *self.held_out])
        return json.dumps(asdict(self.settings), sort_keys=True) + fingerprint(tensors + inputs)

    @torch.no_grad()
    def _set_temperatures(self, share: float) -> None:
        """Let temperatures fit what the trees of a layer compare."""
        layers = layers_of(self.model)
        spreads = spreads_of(self.model, list(layers), self.batches[self.used[0]])
        for name, layer in layers.items():
            layer.temperature.fill_(share * spreads[name])

    # Blocks.

    def _block(self, block: Block) -> BlockRow:
        begin = time.perf_counter()
        module = self.model.get_submodule(block.name)
        given = inputs_of(self.model, self.exact, block.name, self.batches)
        before = self._error(module, given)
        refit = trained = None
        if self.settings.refit:
            old = copy_of(module)
            for name in block.layers:
                self._refit(name, block, module, given)
            refit = self._error(module, given)
            if refit > before:
                module.load_state_dict(old)
                refit = before
        if self.settings.block_steps:
            trained = self._train_block(module, given, block.name)
        self._learn_ranges(module, given)
        return BlockRow(
            name=block.name, layers=block.layers, before=before, refit=refit, trained=trained,
            seconds=time.perf_counter() - begin,
        )  # fmt: skip

    @torch.no_grad()
    def _refit(self, name: str, block: Block, module: nn.Module, given: Inputs) -> None:
        """Learn the tables of one layer again, where the exact network has a layer of its name."""
        try:
            twin = self.exact.get_submodule(name)
        except AttributeError:
            return
        layer = self.model.get_submodule(name)
        assert isinstance(layer, HalutLayer)
        if layer.config.relu:
            return
        inputs: list[Tensor] = []
        targets: list[Tensor] = []
        exact_block = self.exact.get_submodule(block.name)
        with hooked([
            layer.register_forward_pre_hook(lambda _, args: inputs.append(args[0].clone())),
            twin.register_forward_hook(lambda _, __, output: targets.append(output.clone())),
        ]):  # fmt: skip
            for index in self.used:
                for call in given.calls[index]:
                    call.run(module)
                for call in given.exact_calls[index]:
                    call.run(exact_block)
        sizes = [one.numel() // layer.weight_shape[0] for one in targets]
        if inputs and len(inputs) == len(targets) and all(sizes):
            refit_(layer, inputs, targets, self.settings.max_rows)

    @torch.no_grad()
    def _error(self, module: nn.Module, given: Inputs) -> float:
        """Return a block's error on the batches that were kept back."""
        wrong = spread = 0.0
        for index in self.kept:
            found = [one for call in given.calls[index] for one in tensors_of(call.run(module))]
            for one, wanted in zip(found, given.targets[index], strict=True):
                wrong += float((one.double() - wanted.double()).square().sum())
                spread += float((wanted.double() - wanted.double().mean()).square().sum())
        return wrong / spread if spread else wrong

    def _train_block(self, module: nn.Module, given: Inputs, name: str) -> float:
        columns = zip(*(given.targets[index] for index in self.used), strict=True)
        spread = [
            sum(float(one.var(unbiased=False)) for one in column) / len(self.used) or 1.0
            for column in columns
        ]

        def loss(index: int) -> Tensor:
            found = [one for call in given.calls[index] for one in tensors_of(call.run(module))]
            parts = [
                (one - wanted).square().mean() / scale
                for one, wanted, scale in zip(found, given.targets[index], spread, strict=True)
            ]
            return torch.stack(parts).sum()

        training = Training(module, self.settings.rate, self.settings.block_steps)
        training.start(lambda: self._error(module, given))
        order = in_random_order(
            self.used, self.settings.block_steps, f"{self.settings.seed} {name}"
        )
        with only_trained(module, training.parameters):
            for index in order:
                training.step(loss(index))
        return training.end()

    @torch.no_grad()
    def _learn_ranges(self, module: nn.Module, given: Inputs) -> None:
        """Let 8-bit words span what layers give now."""
        for layer in layers_of(module).values():
            if layer.output_range is not None:
                seen: list[Tensor] = []
                with hooked(
                    [layer.register_forward_pre_hook(lambda _, args, to=seen: to.append(args[0]))]
                ):
                    for index in self.used:
                        for call in given.calls[index]:
                            call.run(module)
                layer.learn_output_range(seen)

    # The whole network.

    def _distill(self, state: _State, taught: list[list[Tensor]]) -> None:
        settings = self.settings
        if not settings.distill_steps or "after" in state.content:
            return
        as_classes = settings.outputs == "classes" or (
            settings.outputs == "auto" and len(taught[0]) == 1 and taught[0][0].ndim == 2
        )
        compare = class_loss if as_classes else value_loss

        def loss(index: int) -> Tensor:
            return compare(tensors_of(run_batch(self.model, self.batches[index])), taught[index])

        @torch.no_grad()
        def judge() -> float:
            return sum(float(loss(index)) for index in self.kept)

        training = Training(self.model, settings.distill_rate, settings.distill_steps)
        training.start(judge, state.content.get("training"))
        order = in_random_order(self.used, settings.distill_steps, f"{settings.seed}")[
            training.done :
        ]
        with only_trained(self.model, training.parameters):
            for index in shown(order, "distilling", "step", self.progress):
                if training.step(loss(index)):
                    state.content["training"] = training.state()
                    state.write(self.model)
        training.end()
        state.content.pop("training", None)


class _State:
    """What a reconstruction keeps in a file to go on from.

    Parameters
    ----------
    file : Path or None
        None keeps nothing.
    study : str
        What tells this reconstruction from others.
    """

    def __init__(self, file: Path | None, study: str) -> None:
        self._file, self._study = file, study
        self.content: dict[str, Any] = {}

    def read(self, model: nn.Module) -> bool:
        """Take up what the file holds; return False where there is none."""
        if self._file is None or not self._file.exists():
            return False
        content = files.read(self._file, "state of a reconstruction", _KIND, (_VERSION,))
        if content.get("study") != self._study:
            raise HalutError(
                "folder must be new, or hold a reconstruction of these networks, inputs and "
                f"settings, not of others ({self._file})"
            )
        model.load_state_dict(content["model"])
        self.content = content["content"]
        return True

    def write(self, model: nn.Module) -> None:
        """Replace the file."""
        if self._file is not None:
            content = {
                "kind": _KIND, "version": _VERSION, "study": self._study,
                "content": self.content, "model": model.state_dict(),
            }  # fmt: skip
            files.write(self._file, content)
