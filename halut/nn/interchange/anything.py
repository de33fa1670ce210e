"""Any network that a user may name: a file of ours, of ONNX or of `torch.export`, or a function."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from halut.errors import CheckFailed, HalutError
from halut.files import file_hash
from halut.nn.models import FILES, build
from halut.nn.network import load_network

__all__ = ["architecture_of", "check_with_onnxruntime", "read_model"]

_TOLERANCE = 1e-3  # of the largest output; both compute in float32


def read_model(
    name: str | os.PathLike[str], imports: Collection[str] = ()
) -> tuple[nn.Module, dict[str, Any] | None, dict[str, Any]]:
    """Return a network in evaluation mode, its architecture and its data, see `save_network`.

    Parameters
    ----------
    name : path-like
        A network file (.pt, .safetensors), an ONNX file, a program of `torch.export` (.pt2), or
        ``package.module:function``, which is called.
    imports : collection of str, default none
        See `halut.nn.network.load_network`.
    """
    architecture = architecture_of(name)
    if architecture is None:
        model, header = load_network(name, imports=imports)
        return model, header["architecture"], header["data"]
    source = {key: value for key, value in architecture["name"].items() if key != "sha256"}
    return build(source).eval(), architecture, {}


def architecture_of(name: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Return the architecture that stands for a file or a function; None for a network file."""
    path = Path(name)
    if path.suffix in FILES:
        try:
            digest = file_hash(path)
        except OSError as error:
            raise HalutError(f"network must be readable: {error.strerror} ({path})") from None
        return {"name": {"file": os.path.abspath(path), "sha256": digest}, "kwargs": {}}
    if ":" in str(name) and not path.exists():
        return {"name": {"import": str(name)}, "kwargs": {}}
    return None


@torch.no_grad()
def check_with_onnxruntime(path: str | os.PathLike[str], model: nn.Module, x: Tensor) -> bool:
    """Compare a network that was read from an ONNX file with what onnxruntime makes of the file.

    Returns
    -------
    bool
        False where onnxruntime is not installed, or the file does not take the input.

    Raises
    ------
    CheckFailed
        When an output differs by more than a thousandth of the largest one.
    """
    try:
        import onnxruntime
    except ImportError:
        return False
    try:
        session = onnxruntime.InferenceSession(os.fspath(path), providers=["CPUExecutionProvider"])
        names = [one.name for one in session.get_inputs()]
        wanted = session.run(None, {names[0]: x.numpy()})[0]
    except Exception:  # its own classes of errors; files may be for one batch size
        return False
    found = model(x)
    found = found[0] if isinstance(found, tuple) else found
    largest = float(abs(wanted).max()) or 1.0
    difference = float(abs(found.numpy() - wanted).max())
    if not difference <= _TOLERANCE * largest:
        raise CheckFailed(
            f"outputs must be those of onnxruntime, not {difference:.3g} away of {largest:.3g} "
            f"({path})"
        )
    return True
