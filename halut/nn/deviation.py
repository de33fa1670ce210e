"""How far outputs of a converted network are from those of the exact one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from halut.checks import in_range
from halut.errors import HalutError
from halut.nn.layer import is_dense
from halut.nn.replace import Structure
from halut.nn.watch import calls_of, logits_of, run_batch

__all__ = ["Comparison", "Deviation", "Judge", "Likeness", "accuracy", "all_finite", "decisions",
           "exact_outputs", "tensors_of"]  # fmt: skip


def tensors_of(output: Any) -> list[Tensor]:
    """Return the floating tensors of what a module returned, in order."""
    if isinstance(output, Tensor):
        return [output] if output.is_floating_point() else []
    if isinstance(output, Mapping):
        output = output.values()
    elif not isinstance(output, (tuple, list)):
        return []
    return [tensor for item in output for tensor in tensors_of(item)]


@torch.no_grad()
def accuracy(model: nn.Module, inputs: Tensor, labels: Tensor, batch: int = 256) -> float:
    """Return the share of inputs whose largest output is that of their class.

    Parameters
    ----------
    model : nn.Module
        In evaluation mode.
    inputs : Tensor of shape (n, ...)
    labels : integer Tensor of shape (n,)
    batch : int, default 256
        Inputs of a call.
    """
    right = sum(
        int((logits_of(model, some).argmax(dim=1) == classes).sum())
        for some, classes in zip(inputs.split(batch), labels.split(batch), strict=True)
    )
    return right / len(inputs)


def all_finite(output: Any) -> bool:
    """Return whether all dense tensors that a module returned are finite."""
    dense = (tensor for tensor in tensors_of(output) if is_dense(tensor))
    return all(bool(torch.isfinite(tensor).all()) for tensor in dense)


@torch.no_grad()
def exact_outputs(exact: nn.Module, batches: list[Any]) -> list[list[Tensor]]:
    """Return what an exact network gives, floats only, for inputs that others are judged by.

    Raises
    ------
    HalutError
        When something is NaN or infinite: nothing could be compared with it.
    """
    outputs = []
    for index, batch in enumerate(batches):
        outputs.append(tensors_of(run_batch(exact, batch)))
        if not all_finite(outputs[-1]):
            raise HalutError(
                "the exact network must give finite outputs for the inputs that it is compared on, "
                f"not NaN or infinite ones (batch {index})"
            )
    return outputs


class Deviation:
    """Squared difference of outputs, relative to the variance of each.

    Outputs are the channels (dimension 1) of tensors of four or more dimensions, and the last
    dimension of others.
    """

    def __init__(self) -> None:
        self._sums: dict[tuple[int, int], Tensor] = {}

    def add_all(self, found: Sequence[Tensor], exact: Sequence[Tensor]) -> None:
        """Count the values that a network gave for one batch, tensor by tensor."""
        for position, (one, wanted) in enumerate(zip(found, exact, strict=True)):
            self.add(one, wanted, position)

    def add(self, found: Tensor, exact: Tensor, position: int = 0) -> None:
        """Count the values of one batch, of the tensor at a position of what a network gives."""
        axis = 1 if exact.ndim > 3 else -1
        wanted, got = (
            (one.reshape(-1, 1) if one.ndim < 2 else one.movedim(axis, -1).flatten(0, -2)).double()
            for one in (exact, found)
        )
        number = torch.full_like(wanted[0], len(wanted)) if len(wanted) else None
        if number is None:
            return
        sums = torch.stack(
            [number, wanted.sum(0), wanted.square().sum(0), (got - wanted).square().sum(0)]
        )
        # A tensor may have other outputs in the next batch, such as one for each token.
        of_it = position, wanted.shape[1]
        self._sums[of_it] = self._sums[of_it] + sums if of_it in self._sums else sums

    def value(self) -> float | None:
        """Return the mean over the outputs that vary; None where none does."""
        if not self._sums:
            return None
        number, total, squares, errors = torch.cat(list(self._sums.values()), dim=1)
        variance = squares - total.square() / number
        varies = variance > 1e-9 * squares
        if not varies.any():
            return None
        return float((errors[varies] / variance[varies]).mean())


class Judge:
    """Measures layers of a model that is being converted, on held-out inputs.

    Parameters
    ----------
    model : nn.Module
        Still exact.
    batches : list
        As for `halut.nn.convert_`.
    """

    @torch.no_grad()
    def __init__(self, model: nn.Module, batches: list[Any]) -> None:
        self._model, self._batches = model, batches
        self._exact = Structure(model)
        self._outputs = exact_outputs(model, batches)

    @torch.no_grad()
    def errors(self, name: str, layer: nn.Module) -> dict[str, float | None]:
        """Return the errors of a layer that was just put in its place, see `ConversionRow`."""
        converted = Structure(self._model)
        alone, inside, piled_up = Deviation(), Deviation(), Deviation()
        for batch, outputs in zip(self._batches, self._outputs, strict=True):
            self._exact.put_back()
            try:
                exact = self._model.get_submodule(name)
                given = calls_of(self._model, [name], [batch])[name]
                wanted = [tensors_of(exact.forward(*call.args, **call.kwargs))[0] for call in given]
            finally:
                converted.put_back()
            for call, output in zip(given, wanted, strict=True):
                alone.add(tensors_of(layer.forward(*call.args, **call.kwargs))[0], output)
            own = calls_of(self._model, [name], [batch])[name]
            for call, output in zip(own, wanted, strict=True):
                inside.add(tensors_of(layer.forward(*call.args, **call.kwargs))[0], output)
            piled_up.add_all(tensors_of(run_batch(self._model, batch)), outputs)
        return {
            "exact_inputs_error": alone.value(),
            "own_inputs_error": inside.value(),
            "output_error": piled_up.value(),
        }


def decisions(output: Any) -> Tensor:
    """Return the largest output of every item and place: the class, of a classifier.

    Of the first floating tensor; outputs are its channels, see `Deviation`.
    """
    (first, *_) = tensors_of(output)
    return first.argmax(dim=1 if first.ndim > 3 else -1)


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """How like the exact network a converted one is.

    Attributes
    ----------
    agreement : float
        Share of the decisions that are the same, see `decisions`; 0 to 1.
    output_error : float or None
        See `Deviation`.
    divergence : float
        Mean Kullback-Leibler divergence of the distributions that softmax makes of the outputs.
    accuracy : float or None
        Share of the decisions that are the labels, where there are any.
    """

    agreement: float
    output_error: float | None
    divergence: float
    accuracy: float | None = None


class Comparison:
    """Compares converted networks with an exact one on some inputs.

    Parameters
    ----------
    exact : nn.Module
        Run once.
    batches : list
        As for `halut.nn.convert_`.
    labels : integer Tensor, optional
        Of all decisions, one batch after the other.

    Attributes
    ----------
    accuracy : float or None
        Of the exact network.

    Raises
    ------
    HalutError
        When the exact network's outputs are no finite floats, or labels are not classes of theirs.
    """

    @torch.no_grad()
    def __init__(self, exact: nn.Module, batches: list[Any], labels: Tensor | None = None) -> None:
        self._batches = batches
        self.outputs = exact_outputs(exact, batches)
        if not all(self.outputs):
            raise HalutError("model must return tensors of floats to be compared")
        made = torch.cat([decisions(one).flatten() for one in self.outputs])
        self._labels, self.accuracy = None, None
        if labels is not None:
            self._labels = labels.flatten().to(made.device)
            if len(self._labels) != len(made):
                raise HalutError(f"labels must be {len(made)}, one a decision, not {len(labels)}")
            if labels.is_floating_point() or labels.is_complex():
                raise HalutError(f"labels must be integers, not {labels.dtype}")
            first = self.outputs[0][0]
            n_classes = first.shape[1 if first.ndim > 3 else -1]
            for end in (self._labels.min(), self._labels.max()) if len(made) else ():
                in_range("a label", int(end), 0, n_classes - 1)
            self.accuracy = float((made == self._labels).double().mean())

    @torch.no_grad()
    def of(self, model: nn.Module) -> Likeness:
        """Compare a network, which is in evaluation mode."""
        deviation, same, number, apart = Deviation(), 0, 0, 0.0
        made: list[Tensor] = []
        for batch, wanted in zip(self._batches, self.outputs, strict=True):
            found = tensors_of(run_batch(model, batch))
            deviation.add_all(found, wanted)
            now, then = decisions(found), decisions(wanted)
            same, number = same + int((now == then).sum()), number + now.numel()
            made.append(now.flatten())
            axis = 1 if wanted[0].ndim > 3 else -1
            log_now, log_then = (
                functional.log_softmax(one[0].double(), dim=axis) for one in (found, wanted)
            )
            apart += float((log_then.exp() * (log_then - log_now)).sum())
        count = max(number, 1)
        accuracy = None
        if self._labels is not None:
            accuracy = float((torch.cat(made) == self._labels).double().mean())
        return Likeness(
            agreement=same / count,
            output_error=deviation.value(),
            divergence=apart / count,
            accuracy=accuracy,
        )
