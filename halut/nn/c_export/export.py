"""A network as a folder of C99 that builds and tests itself."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import halut
from halut.checks import either
from halut.errors import CheckFailed, HalutError
from halut.files import locked, write_text
from halut.nn.c_export import sizes
from halut.nn.c_export.beside import channels_last, check_steps, has_order
from halut.nn.c_export.emit import emit_network, emit_vector
from halut.nn.c_export.int8 import in_words
from halut.nn.c_export.reference import compute
from halut.nn.c_export.schedule import schedule
from halut.nn.c_export.steps import LookUp, Network, Product
from halut.nn.c_export.trace import trace
from halut.nn.files import remove_earlier
from halut.nn.watch import evaluating, output_of

__all__ = ["FORMS", "MANIFEST", "Exported", "export_c"]

MANIFEST = "network.json"
KIND = "halut-c-network"
VERSION = 1

FORMS = ("float", "int8")

_RUNTIME = Path(__file__).with_name("runtime")


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written.

    Attributes
    ----------
    steps, looked_up, exact : int
        Steps; products that are looked up; exact ones.
    table_bytes : dict of str to int
        Constants by what they are: tables, thresholds, weights …
    workspace_bytes, input_bytes, output_bytes : int
        The peak of all buffers; the caller's memory.
    code_bytes : dict of str to int
        By compiler that was found: functions of the network and what they call.
    inputs, identical, same_class : int
        Inputs of the test vector; those whose outputs have the very bits of PyTorch; those whose
        largest output is the same.
    max_difference : float
        Largest difference of an output from PyTorch's.
    largest_step_difference : float
        Of a step that adds up floats from PyTorch's operation on the same values, as a share of
        the largest; every other step has been checked to give the very bits.
    exact_form : {"float", "int8"}
    defined : bool
        Whether PyTorch defines the order of all operations, so that every bit must be equal.
    """

    steps: int
    looked_up: int
    exact: int
    table_bytes: dict[str, int]
    workspace_bytes: int
    input_bytes: int
    output_bytes: int
    code_bytes: dict[str, int] = field(default_factory=dict)
    inputs: int
    identical: int
    same_class: int
    max_difference: float
    largest_step_difference: float
    exact_form: str
    defined: bool

    @property
    def verdict(self) -> str:
        """Say how the outputs of the test vector compare with PyTorch's."""
        text = f"{self.identical} of {self.inputs} inputs give the bits of PyTorch"
        if self.defined:
            return text
        text += f", {self.same_class} its class; largest difference {self.max_difference:.3g}"
        if self.exact_form == "int8":
            return f"{text} (values between layers are words)"
        return f"{text} (exact layers add up floats in another order than PyTorch)"


def export_c(
    model: nn.Module,
    folder: str | os.PathLike[str],
    inputs: Tensor,
    *,
    exact: str = "float",
    calibration: Tensor | None = None,
    measure_code: bool = True,
) -> Exported:
    """Write a network in C99, with a test vector of inputs and the outputs that they must give.

    Parameters
    ----------
    model : torch.nn.Module
        Converted layers must be exact, with tables of integers.
    folder : path-like
        Made when missing; files of an earlier export are replaced. The manifest, ``network.json``,
        is written last: a folder with it is complete.
    inputs : float32 Tensor of shape (n, ...), n at least 1, finite
        The test vector.
    exact : {"float", "int8"}, default "float"
        What exact layers compute. "float": all as in PyTorch, bit for bit but for the order in
        which floats of exact layers are added up. "int8": in words, and so is everything between
        layers, see `halut.nn.c_export.int8`.
    calibration : float32 Tensor of shape (n, ...), optional
        For "int8": inputs that the ranges of words are learned from; `inputs` when absent.
    measure_code : bool, default True
        Whether the code is compiled, by all compilers that are found, to measure its size.

    Returns
    -------
    Exported

    Raises
    ------
    HalutError
        When an operation has no counterpart in C, or the folder holds something else.
    CheckFailed
        When the outputs differ from PyTorch's where they must not.
    """
    either("exact", exact, FORMS)
    images = _checked(inputs, "inputs")
    with evaluating(model):
        with torch.no_grad():
            wanted = output_of(model, images)
        network, graph = trace(model, images[:1])
        given, difference = check_steps(model, graph, network, images)
    defined = exact == "float" and all(map(has_order, network.steps))
    if exact == "int8":
        seen = images if calibration is None else _checked(calibration, "calibration")
        network = in_words(network, channels_last(seen))
        given = compute(network, channels_last(images))
    placed = _as_in_memory(wanted, network)
    if defined:
        _check_equal(given, placed)
    plan = schedule(network)
    source = emit_network(network, plan, type(model).__name__)
    vector = emit_vector(channels_last(images).reshape(len(images), -1), given)
    files = {"network.h": source.header, "network.c": source.code}
    files |= dict(zip(("vector.h", "vector.c"), vector, strict=True))
    files |= _runtime()
    place = Path(folder)
    with locked(place):
        remove_earlier(
            place / MANIFEST, KIND, "export to C", lambda manifest: map(str, manifest["files"])
        )
        for name, text in files.items():
            write_text(place / name, text)
        result = Exported(
            steps=len(network.steps),
            looked_up=sum(isinstance(step, LookUp) for step in network.steps),
            exact=sum(isinstance(step, Product) for step in network.steps),
            table_bytes=sizes.by_purpose(source.constants),
            workspace_bytes=plan.n_bytes,
            input_bytes=network.input.n_bytes,
            output_bytes=network.output.n_bytes,
            code_bytes=sizes.code_bytes(place) if measure_code else {},
            inputs=len(images),
            identical=int((given.view(np.int32) == placed.view(np.int32)).all(axis=1).sum()),
            same_class=int((given.argmax(axis=1) == placed.argmax(axis=1)).sum()),
            max_difference=float(np.abs(given - placed).max()),
            largest_step_difference=difference,
            exact_form=exact,
            defined=defined,
        )
        manifest = {
            "kind": KIND,
            "version": VERSION,
            "files": sorted(files),
            "exact": exact,
            "steps": result.steps,
            "table_bytes": result.table_bytes,
            "workspace_bytes": result.workspace_bytes,
            "versions": {"halut": halut.__version__, "torch": str(torch.__version__)},
        }
        write_text(place / MANIFEST, json.dumps(manifest, indent=2) + "\n")
    return result


def _checked(images: Tensor, name: str) -> Tensor:
    if not isinstance(images, Tensor) or images.ndim not in (2, 3, 4) or not images.numel():
        raise HalutError(
            f"{name} must be a tensor of shape (n, features), (n, channels, length) or "
            "(n, channels, height, width)"
        )
    if not torch.isfinite(images).all():
        raise HalutError(f"{name} must be finite, not NaN or infinite")
    return images.detach().float().cpu()


def _runtime() -> dict[str, str]:
    """Return the files that are the same for every network."""
    files = {}
    for path in sorted(_RUNTIME.iterdir()):
        if path.suffix in (".c", ".h", ".ld", ".mk"):
            name = "Makefile" if path.suffix == ".mk" else path.name
            files[name] = path.read_text(encoding="utf-8")
    return files


def _as_in_memory(
    outputs: Tensor, network: Network
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Return PyTorch's outputs (n, n_outputs) in the order in which C stores them."""
    if outputs.ndim > 2:
        return channels_last(outputs).reshape(len(outputs), -1)
    rows = outputs.numpy()
    places = network.output.places
    if places is None:
        return np.ascontiguousarray(rows)
    ordered = np.empty_like(rows)
    ordered[:, places] = rows
    return ordered


def _check_equal(
    given: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
    wanted: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
) -> None:
    wrong = np.argwhere(given.view(np.int32) != wanted.view(np.int32))
    if len(wrong):
        image, output = wrong[0]
        raise CheckFailed(
            f"outputs must equal PyTorch's: input {image}, output {output} must be "
            f"{float(wanted[image, output])!r}, not {float(given[image, output])!r} "
            f"({len(wrong)} of {given.size} differ)"
        )
