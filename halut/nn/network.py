"""A trained network as one file, and as the programs and the manifest that an accelerator needs.

The network file is what `torch.save` writes, read back with ``weights_only=True``: no code of it
is run. It names the network's class and arguments, lists the layers that were replaced, and holds
all parameters and buffers. The export is a folder with one program per layer and group, and
``network.json``, which lists them in the order of the forward pass.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import halut
from halut.arrays import load_array
from halut.checks import located
from halut.errors import HalutError
from halut.files import atomic_write, file_hash, locked
from halut.nn import files
from halut.nn.data import Dataset, load
from halut.nn.description import FIELDS, described, rebuild_
from halut.nn.files import remove_earlier
from halut.nn.layers import HalutLayer, layers_of
from halut.nn.macs import products_by_module
from halut.nn.models import build
from halut.nn.prune import fit_
from halut.nn.replace import as_written
from halut.program import Program

__all__ = [
    "MANIFEST",
    "check_exact",
    "example_input",
    "export_network",
    "halut_layers",
    "load_data",
    "load_inputs",
    "load_network",
    "save_network",
]

KIND = "halut-network"
VERSION = 2
READABLE_VERSIONS = (1, 2)
"""Version 1 has no half-float tables, overflow or output stage; its files mean the same."""
MANIFEST = "network.json"
MANIFEST_KIND = "halut-network-manifest"
MANIFEST_VERSION = 2

_FIELDS = ("architecture", *FIELDS, "state", "data", "versions")
_DATA = ("name", "root", "seed", "n_train", "n_test")
_LARGEST_TILE = 32  # codebooks and outputs of a suggested accelerator: the tables of the paper's


def halut_layers(model: nn.Module) -> dict[str, HalutLayer]:
    """Return the replaced layers of a network by their names; at least one.

    Raises
    ------
    HalutError
        When there is none.
    """
    layers = layers_of(model)
    if not layers:
        raise HalutError("network must have a converted layer, not none (halut.nn.convert_)")
    return layers


def check_exact(layers: Mapping[str, HalutLayer]) -> None:
    """Check that every layer computes what the hardware computes.

    Raises
    ------
    HalutError
        Naming the first layer that does not, and what to set.
    """
    for name, layer in layers.items():
        with located(f"layer {name}"):
            layer.check_exact()


# The network file


def save_network(
    path: str | os.PathLike[str],
    model: nn.Module,
    architecture: Mapping[str, Any] | None,
    data: Mapping[str, Any] | None = None,
) -> Path:
    """Write a network, converted or not, to one file.

    Parameters
    ----------
    path : path-like
        The file to write, ``.safetensors`` or what `torch.save` writes; the previous one stays when
        writing fails.
    model : nn.Module
    architecture : mapping or None
        ``{"name": ..., "kwargs": {...}}`` for `halut.nn.models.build`. None for any other
        network, which `load_network` then has to be given.
    data : mapping, optional
        What it was trained on: arguments of `halut.nn.data.load`, and ``input_shape``, the shape
        of one input.

    Returns
    -------
    pathlib.Path
        `path`.
    """
    model = as_written(model)
    header = {
        "architecture": None if architecture is None else dict(architecture),
        **described(model),
        "data": dict(data or {}),
        "versions": {"halut": halut.__version__, "torch": str(torch.__version__)},
    }
    try:
        header = json.loads(json.dumps(header, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise HalutError(f"architecture and data must be what JSON can hold: {error}") from None
    state = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
    content = {"kind": KIND, "version": VERSION, **header, "state": state}
    files.write(path, content)
    return Path(path)


def load_network(
    path: str | os.PathLike[str],
    model: nn.Module | None = None,
    *,
    imports: Collection[str] = (),
) -> tuple[nn.Module, dict[str, Any]]:
    """Read a network.

    Parameters
    ----------
    path : path-like
        A file that `save_network` wrote.
    model : nn.Module, optional
        A network of the same structure, not converted, to fill in; needed when the file does not
        name an architecture.
    imports : collection of str, default none
        Functions ``package.module:function`` that may be imported and called where the file names
        them as its architecture.

    Returns
    -------
    model : nn.Module
        On the CPU, in evaluation mode.
    header : dict
        Everything else in the file: ``architecture``, ``layers``, ``data``, ``versions`` …

    Raises
    ------
    HalutError
        When the file is missing, damaged, something else or of another version, or does not fit
        the network; the message names the file.
    """
    content = _read(path)
    state = content.pop("state")
    try:
        if model is None:
            if content["architecture"] is None:
                raise HalutError("architecture must be in the file, or a model be given")
            name = content["architecture"]["name"]
            _check_import(name, imports)
            model = build(name, **content["architecture"]["kwargs"])
        model = as_written(model)
        rebuild_(model, content)
        fit_(model, state)  # pruning drops outputs of plain layers
        model.load_state_dict(state)
    except HalutError as error:
        raise HalutError(f"{error} ({path})") from None
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise HalutError(f"network file must fit its network: {reason} ({path})") from None
    return model.eval(), content


def _check_import(source: str | Mapping[str, Any], imports: Collection[str]) -> None:
    """Raise `HalutError` unless a source that a file names is no code, or permitted."""
    if isinstance(source, Mapping) and source.get("import", "") not in ("", *imports):
        name = source["import"]
        raise HalutError(f"{name} must be permitted before it is run (--import {name})")


def load_data(
    header: Mapping[str, Any],
    root: str | os.PathLike[str] | None = None,
    imports: Collection[str] = (),
) -> Dataset:
    """Return the data set that a network was trained on, as `load_network`'s header names it.

    Parameters
    ----------
    header : mapping
    root : path-like, optional
        The folder of the data set, if not the one that it was trained from.
    imports : collection of str, default none
        As for `load_network`.
    """
    given = header.get("data") or {}
    arguments = {key: given[key] for key in _DATA if given.get(key) is not None}
    if "name" not in arguments:
        raise HalutError("network file must name its data set (data: name)")
    _check_import(arguments["name"], imports)
    return load(**(arguments | ({} if root is None else {"root": root})))


def load_inputs(path: str | os.PathLike[str], header: Mapping[str, Any]) -> Tensor:
    """Return a user's inputs (.npy) of a network, as it takes them.

    Parameters
    ----------
    path : path-like
        float32 (or other floating) array of shape (any, ...), normalised as the network's data are,
        or integers (tokens).
    header : mapping
        As `load_network` returns it: each input must have its ``input_shape``.
    """
    values = load_array("inputs", path)
    shape = (header.get("data") or {}).get("input_shape")
    if values.dtype.kind not in "fiu" or values.ndim < 2 or not len(values):
        raise HalutError(
            f"inputs must be numbers of shape (any, ...), not {values.dtype} of shape "
            f"{values.shape} ({path})"
        )
    if shape is not None and list(values.shape[1:]) != list(shape):
        raise HalutError(f"inputs must have shape (any, {', '.join(map(str, shape))}), "
                         f"not {values.shape} ({path})")  # fmt: skip
    dtype = np.float32 if values.dtype.kind == "f" else np.int64
    return torch.from_numpy(np.ascontiguousarray(values, dtype))


def example_input(
    header: Mapping[str, Any],
    root: str | os.PathLike[str] | None = None,
    imports: Collection[str] = (),
) -> Tensor:
    """Return one input of the network: zeros of its ``input_shape``, else a test image."""
    shape = (header.get("data") or {}).get("input_shape")
    if shape is not None:
        if not all(isinstance(size, int) and size > 0 for size in shape):
            raise HalutError(f"input_shape must be integers of at least 1, not {shape}")
        return torch.zeros(1, *shape)
    return load_data(header, root, imports).test_x[:1]


def _read(path: str | os.PathLike[str]) -> dict[str, Any]:
    content = files.read(path, "network", KIND, READABLE_VERSIONS)
    missing = [name for name in _FIELDS if name not in content]
    if missing:
        raise HalutError(f"network file must have {', '.join(missing)} ({path})")
    fields = (*_FIELDS, *(["handled"] if "handled" in content else []))
    return {name: content[name] for name in fields}


# The export


def export_network(
    model: nn.Module,
    folder: str | os.PathLike[str],
    example_input: Any,
    *,
    architecture: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write one program per converted layer and group, and the manifest ``network.json``.

    The manifest is written last, and an earlier one is removed first, with its programs: a folder
    with a manifest is complete. While another process exports to the folder, this one waits.

    Parameters
    ----------
    model : nn.Module
        A network with converted, exact layers.
    folder : path-like
        Made when missing.
    example_input : Tensor or mapping
        What the network is called with (see `convert_`): it fixes the order of the layers, and
        their rows.
    architecture, data : mapping, optional
        Kept in the manifest; see `save_network`.

    Returns
    -------
    dict
        The manifest.

    Raises
    ------
    HalutError
        When a layer is not exact, or the forward pass does not reach it.
    """
    model = as_written(model)
    layers = halut_layers(model)
    check_exact(layers)
    visits, n_items = products_by_module(model, example_input), _n_items(example_input)
    for name in layers:
        if name not in visits:
            raise HalutError(f"forward pass must reach every converted layer, not miss {name}")
    place = Path(folder)
    with locked(place):
        remove_earlier(place / MANIFEST, MANIFEST_KIND, "export", _programs_in)
        entries: list[dict[str, Any]] = []
        index = 0
        for name, products in visits.items():
            module = model.get_submodule(name)
            sizes = [
                {
                    "groups": product.groups,
                    "rows_per_input": _whole(product.rows / n_items),
                    "n_features": product.n_features,
                    "n_outputs": product.n_outputs,
                }
                for product in products
            ]
            entry: dict[str, Any] = {"name": name, "converted": isinstance(module, HalutLayer)}
            if isinstance(module, HalutLayer):
                entry |= _export_layer(place, index, name, module, sizes[0]["rows_per_input"])
                index += 1
            else:
                entry["kind"] = type(module).__name__
                entry["parameters"] = sum(p.numel() for p in module.parameters(recurse=False))
                entry |= sizes[0] if len(sizes) == 1 else {"products": sizes} if sizes else {}
            entries.append(entry)
        manifest = {
            "kind": MANIFEST_KIND,
            "version": MANIFEST_VERSION,
            "architecture": None if architecture is None else dict(architecture),
            "data": dict(data or {}),
            "layers": entries,
            "versions": {"halut": halut.__version__, "torch": str(torch.__version__)},
        }
        with atomic_write(place / MANIFEST) as temporary:
            temporary.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    return manifest


def _n_items(example_input: Any) -> int:
    tensors = example_input.values() if isinstance(example_input, Mapping) else [example_input]
    n_items = next((len(value) for value in tensors if isinstance(value, Tensor)), 0)
    if not n_items:
        raise HalutError("example_input must have at least one item, not 0")
    return n_items


def _whole(value: float) -> float:
    return int(value) if value == int(value) else value


def _export_layer(
    folder: Path, index: int, name: str, layer: HalutLayer, rows: float
) -> dict[str, Any]:
    programs = layer.programs()
    stem = f"{index:02}-{_file_name(name)}"
    files = []
    for group, program in enumerate(programs):
        file = f"{stem}-g{group}.npz" if len(programs) > 1 else f"{stem}.npz"
        digest = file_hash(program.save(folder / file))
        files.append({"file": file, "sha256": digest})
    geometry = layer.geometry()
    first = programs[0]
    return {
        "kind": geometry.pop("kind"),
        "geometry": geometry,
        "groups": layer.groups,
        "rows_per_input": _whole(rows),
        "n_features": first.n_features,
        "n_outputs": first.n_outputs,
        "n_codebooks": first.n_codebooks,
        "n_prototypes": first.n_prototypes,
        "input_format": first.input_format,
        "lut_bits": first.lut_bits,
        "lut_format": first.lut_format,
        "accumulator_bits": layer.config.acc_bits or first.accumulator_bits,
        **{name: value for name, value in dict(layer.accumulation).items() if name != "acc_bits"},
        "output_format": first.output_format,
        "relu": first.relu,
        "config": layer.config.to_dict(),
        "programs": files,
        "accelerator": _suggested(stem, first, layer),
    }


def _file_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name) or "network"


def _suggested(name: str, program: Program, layer: HalutLayer) -> dict[str, Any]:
    """Return a configuration (see rtl_gen) whose tiles fill up with as little as can be."""

    def size(total: int) -> int:
        return -(-total // -(-total // _LARGEST_TILE))

    formats: dict[str, Any] = {
        "lut_format": program.lut_format,
        "output_format": program.output_format,
        "relu": program.relu,
        "overflow": layer.config.overflow,
        "acc_bits": layer.config.acc_bits,
    }
    adds_up = formats == dict.fromkeys(formats) | {
        "lut_format": "int", "output_format": "raw", "relu": False,
    }  # fmt: skip
    n_codebooks = size(program.n_codebooks)
    if adds_up:
        formats = {}
    else:  # added up in the layer's order
        parallel, units, loaded = layer.accumulation.order
        loaded = loaded or program.n_codebooks
        n_codebooks = -(-loaded // parallel) * parallel // units
        formats["parallel_codebooks"] = parallel // units
        if units > 1:
            formats["tiles"] = {"codebooks": units}
    return {
        "version": 1,
        "name": name.replace(".", "_")[:64],
        "n_codebooks": n_codebooks,
        "n_prototypes": program.n_prototypes,
        "n_outputs": size(program.n_outputs),
        "input_format": program.input_format,
        "lut_bits": program.lut_bits,
        "codebook_width": max(1, round(program.n_features / program.n_codebooks)),
        **({} if program.signs is None else {"terms": program.terms}),
        **({"window": program.window, "splits": program.splits} if program.window else {}),
        **formats,
    }


def _programs_in(manifest: Mapping[str, Any]) -> list[str]:
    programs = (layer.get("programs", ()) for layer in manifest["layers"])
    return [program["file"] for some in programs for program in some]
