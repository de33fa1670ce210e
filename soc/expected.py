"""A network as C for the firmware, and what its layers must give: by the model, in NumPy.

`halut.nn.c_export` has compared every layer with PyTorch's operation before C is written.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from halut.files import write_text

if TYPE_CHECKING:
    from halut.nn.c_export.steps import LookUp

__all__ = ["Layer", "Reference", "check_sum", "prepare", "write_expected"]

_BYTES = {"f32": "<f4", "i32": "<i4", "i16": "<i2", "i8": "|i1"}


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One step of a network."""

    name: str
    kind: str  #: "look up", "product" or another operation.
    look_ups: int  #: Of one image; 0 where none is looked up.


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What a network must give.

    Attributes
    ----------
    folder : Path
        Of its C files.
    inputs : float32 ndarray of shape (n_images, n_inputs)
    outputs : float32 ndarray of shape (n_images, n_outputs)
    sums : uint32 ndarray of shape (n_images, n_layers)
        Check sums of what every layer stores.
    classes : integer ndarray of shape (n_images,)
        PyTorch's, of the network in floats.
    layers : list of Layer
    steps : list of halut.nn.c_export.steps.Step
    workspace_bytes : int
    """

    folder: Path
    inputs: NDArray[np.float32]
    outputs: NDArray[np.float32]
    sums: NDArray[np.uint32]
    classes: NDArray[np.int64]
    layers: list[Layer]
    steps: list[Any]
    workspace_bytes: int

    @property
    def same_class(self) -> int:
        """Images whose class in words is PyTorch's in floats."""
        return int((self.outputs.argmax(axis=1) == self.classes).sum())


def check_sum(values: NDArray[Any], kind: str) -> int:
    """The FNV-1a check sum of values as they lie in memory, as ``halut_check_sum`` computes it.

    Examples
    --------
    >>> hex(check_sum(np.array([1, -1]), "i8"))
    '0xfdc422fd'
    """
    result = 2166136261
    for byte in np.ascontiguousarray(values).astype(_BYTES[kind]).tobytes():
        result = (result ^ byte) * 16777619 & 0xFFFFFFFF
    return result


def prepare(network: Path, folder: Path, n_images: int) -> Reference:
    """Export a network as C in 8-bit words, and compute what its layers give.

    Parameters
    ----------
    network : Path
        A network file; its test images are the inputs.
    folder : Path
        For the C files.
    n_images : int
    """
    import torch

    from halut.nn.c_export.beside import channels_last
    from halut.nn.c_export.export import MANIFEST, export_c
    from halut.nn.c_export.inputs import calibration_inputs, test_inputs
    from halut.nn.c_export.int8 import in_words
    from halut.nn.c_export.reference import compute
    from halut.nn.c_export.trace import trace
    from halut.nn.network import load_network
    from halut.nn.watch import evaluating, output_of

    model, header = load_network(network)
    images = test_inputs(header, n_images=n_images)
    seen = calibration_inputs(header)
    export_c(model, folder, images, exact="int8", calibration=seen, measure_code=False)
    with evaluating(model), torch.no_grad():
        classes = output_of(model, images).numpy().argmax(axis=1)
        traced, _ = trace(model, images[:1])
    words = in_words(traced, channels_last(seen))
    stored: list[NDArray[np.uint32]] = []

    def watch(value: Any, array: NDArray[Any]) -> None:
        stored.append(np.array([check_sum(one, value.kind) for one in array], dtype=np.uint32))

    inputs = channels_last(images)
    outputs = compute(words, inputs, watch)
    manifest = json.loads((folder / MANIFEST).read_text())
    return Reference(
        folder=folder,
        inputs=inputs.reshape(len(inputs), -1),
        outputs=outputs,
        sums=np.stack(stored[1:], axis=1),  # the first is the input
        classes=classes,
        layers=[_layer(step) for step in words.steps],
        steps=list(words.steps),
        workspace_bytes=int(manifest["workspace_bytes"]),
    )


def _layer(step: Any) -> Layer:
    from halut.nn.c_export.steps import LookUp, Product

    look_ups = _look_ups(step) if isinstance(step, LookUp) else 0
    named = {LookUp: "look up", Product: "product"}
    kind = named.get(type(step), type(step).__name__.lower())
    return Layer(name=step.name, kind=kind, look_ups=look_ups)


def _look_ups(step: LookUp) -> int:
    n_groups, n_codebooks, _, n_outputs = step.table.shape
    return step.output.shape[0] * step.output.shape[1] * n_groups * n_codebooks * n_outputs


def write_expected(
    plain: Reference | None,
    looked_up: Reference,
    folder: Path,
    counts: Sequence[int],
    timed: int,
) -> None:
    """Write ``expected.h``: images, and what every layer must give.

    Parameters
    ----------
    plain, looked_up : Reference
        Of the same images; no plain one where the firmware has none.
    counts : sequence of int
        Images that the firmware classifies: plain, looked up in software, with the unit, with the
        accelerator.
    timed : int
        Of these, images whose cycles are counted.
    """
    n_images = max(counts)
    constants = {
        "WORKSPACE_BYTES": max(plain.workspace_bytes if plain else 0, looked_up.workspace_bytes, 8),
        "EXPECTED_OUTPUTS": looked_up.outputs.shape[1],
        "TIMED_IMAGES": timed,
        "PLAIN_IMAGES": counts[0],
        "SOFTWARE_IMAGES": counts[1],
        "UNIT_IMAGES": counts[2],
        "ACCELERATOR_IMAGES": counts[3],
        "PLAIN_LAYERS": len(plain.layers) if plain else 0,
        "LOOKED_UP_LAYERS": len(looked_up.layers),
    }
    parts = ["/* Images, and what every layer must give. */\n#include <stdint.h>\n"]
    parts += [f"#define {name} {value}U\n" for name, value in constants.items()]
    images = looked_up.inputs[:n_images]
    rows = ",\n".join("{" + ", ".join(map(_float, row)) + "}" for row in images)
    parts.append(
        f"static const float expected_inputs[{n_images}][{images.shape[1]}] = {{\n{rows}}};\n"
    )
    bits = {"looked_up": (looked_up, max(counts[1:]))}
    if plain:
        bits = {"plain": (plain, counts[0]), **bits}
    for name, (reference, count) in bits.items():
        outputs = np.ascontiguousarray(reference.outputs[:count]).view(np.uint32)
        parts.append(_words(f"{name}_outputs", outputs))
        parts.append(_words(f"{name}_sums", reference.sums[:count]))
    parts.append(_words("expected_classes", looked_up.classes[:n_images]))
    write_text(folder / "expected.h", "\n".join(parts))


def _float(value: np.floating[Any]) -> str:
    return f"{float(value).hex()}F"


def _words(name: str, values: NDArray[Any]) -> str:
    listed = ", ".join(f"{int(value)}U" for value in values.ravel())
    return f"static const uint32_t {name}[{values.size}] = {{{listed}}};\n"
