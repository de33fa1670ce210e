"""Files that torch writes and reads: whole or not at all, and read without running code."""

from __future__ import annotations

import io
import json
import os
import struct
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from halut.errors import HalutError
from halut.files import atomic_write

__all__ = ["read", "remove_earlier", "write"]

_METADATA = "halut"


def write(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    """Write a mapping; the previous file stays when writing fails.

    As `torch.save` does; or, where the name ends with ``.safetensors``, its ``state``, and the rest
    as JSON in the metadata.
    """
    if Path(path).suffix == ".safetensors":
        tensors = {name: value.contiguous() for name, value in content["state"].items()}
        rest = {key: value for key, value in content.items() if key != "state"}
        # Sorted: the same network gives the same bytes.
        data = _safetensors().save(tensors, {_METADATA: json.dumps(rest, sort_keys=True)})
        with atomic_write(path) as temporary:
            temporary.write_bytes(data)
        return
    # By way of memory: torch's own writer hides what a full disk says.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with atomic_write(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def read(
    path: str | os.PathLike[str], what: str, kind: str, versions: tuple[int, ...]
) -> dict[str, Any]:
    """Read a mapping that `write` wrote, in either form; no code in the file is run.

    Parameters
    ----------
    path : path-like
    what : str
        What the file is called in an error.
    kind : str
        What the mapping must have as ``kind``.
    versions : tuple of int
        What its ``version`` may be.

    Returns
    -------
    dict
        Tensors are on the CPU.

    Raises
    ------
    HalutError
        When the file is missing, damaged (check sums are compared), something else or of another
        version; the message names it.
    """
    try:
        written = io.BytesIO(Path(path).read_bytes())
    except OSError as error:
        raise HalutError(f"{what} must be readable: {error.strerror} ({path})") from None
    try:
        if Path(path).suffix == ".safetensors":
            content = _read_safetensors(written.getvalue())
        else:
            with zipfile.ZipFile(written) as archive:
                if archive.testzip():  # torch does not look at the check sums
                    raise zipfile.BadZipFile
            written.seek(0)
            content = torch.load(written, map_location="cpu", weights_only=True)
    except HalutError:
        raise
    except Exception as error:  # a foreign or damaged file makes torch.load raise nearly anything
        raise HalutError(
            f"file must be an undamaged {what} ({Path(path).suffix or '.pt'}), not something else: "
            f"{type(error).__name__} ({path})"
        ) from None
    if not isinstance(content, dict) or content.get("kind") != kind:
        raise HalutError(f'file must be a {what} of kind "{kind}", not something else ({path})')
    if content.get("version") not in versions:
        listed = " or ".join(map(str, versions))
        raise HalutError(
            f"version of a {what} must be {listed}, not {content.get('version')!r} ({path})"
        )
    return content


def _read_safetensors(data: bytes) -> dict[str, Any]:
    state = _safetensors().load(data)
    (size,) = struct.unpack("<Q", data[:8])  # of the header, which is JSON
    metadata = json.loads(data[8 : 8 + size])["__metadata__"]
    return {**json.loads(metadata[_METADATA]), "state": state}


def _safetensors() -> Any:
    try:
        import safetensors.torch
    except ImportError:
        raise HalutError(
            "file must be .pt without safetensors (pip install halut-stack[torch])"
        ) from None
    return safetensors.torch


def remove_earlier(
    manifest: Path, kind: str, what: str, listed: Callable[[Mapping[str, Any]], Iterable[str]]
) -> None:
    """Remove the manifest that an earlier run left, if there is one, then the files that it lists.

    Parameters
    ----------
    manifest : pathlib.Path
        A JSON file in the folder of the other files.
    kind : str
        What it must have as ``kind``.
    what : str
        What wrote it, in an error.
    listed : callable
        Returns the names of the files in a manifest; names of other folders are left alone.

    Raises
    ------
    HalutError
        When it is something else, or files cannot be removed.
    """
    folder = manifest.parent
    if not manifest.exists():
        return
    try:
        content = json.loads(manifest.read_text(encoding="utf-8"))
        if content["kind"] != kind:
            raise ValueError
        names = list(listed(content))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise HalutError(
            f"output must be a folder of an earlier {what}, or without {manifest.name} ({folder})"
        ) from None
    try:
        manifest.unlink()
        for name in names:
            if Path(name).name == name:  # nothing outside of the folder
                (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise HalutError(f"output must be writable: {error.strerror} ({folder})") from None
