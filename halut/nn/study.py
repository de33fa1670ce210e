"""A file of results, line by line, from which an interrupted study goes on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from halut.errors import HalutError
from halut.files import atomic_write

__all__ = ["Study", "fingerprint", "tensors_in"]


def fingerprint(tensors: Iterable[Any]) -> str:
    """Return a hash of the shapes, dtypes and values of tensors and NumPy arrays."""
    digest = hashlib.sha256()
    for one in tensors:
        tensor = torch.as_tensor(one).detach().cpu().contiguous()
        digest.update(str((tuple(tensor.shape), tensor.dtype)).encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def tensors_in(batches: Iterable[Any]) -> list[Any]:
    """Return the tensors and NumPy arrays of batches, in order."""
    found: list[Any] = []
    for batch in batches:
        values = batch.values() if isinstance(batch, dict) else batch
        if isinstance(values, (tuple, list)) or isinstance(batch, dict):
            found += [value for value in values if hasattr(value, "dtype")]
        else:
            found.append(batch)
    return found


class Study:
    """Results in a file: a line that says which study it is, then a line for each result.

    Parameters
    ----------
    file : path-like or None
        None keeps results in memory only. The folder is there.
    header : dict
        What tells this study from others, as JSON has it.

    Attributes
    ----------
    results : list of dict
        Those that the file holds; a last line that was not finished does not count.

    Raises
    ------
    HalutError
        When the file holds another study.
    """

    def __init__(self, file: str | os.PathLike[str] | None, header: dict[str, Any]) -> None:
        self._file = None if file is None else Path(file)
        self.results: list[dict[str, Any]] = []
        if self._file is None:
            return
        self.results = self._read(self._file, header)
        lines = [json.dumps(header), *(json.dumps(one) for one in self.results)]
        with atomic_write(self._file) as temporary:
            temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")

    @staticmethod
    def _read(file: Path, header: dict[str, Any]) -> list[dict[str, Any]]:
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        except (OSError, UnicodeDecodeError) as error:
            raise HalutError(f"results must be readable: {error} ({file})") from None
        results: list[dict[str, Any]] = []
        try:
            if not lines or json.loads(lines[0]) != header:
                raise ValueError
            for number, line in enumerate(lines[1:], start=2):
                try:
                    results.append(dict(json.loads(line)))
                except (ValueError, TypeError):
                    if number < len(lines):
                        raise
        except (ValueError, TypeError):
            raise HalutError(
                "output must be a new folder, or hold points of this network, images and formats, "
                f"not of another study ({file})"
            ) from None
        return results

    def add(self, result: dict[str, Any]) -> None:
        """Keep a result; it is on the disk when this returns."""
        self.results.append(result)
        if self._file is not None:
            with open(self._file, "a", encoding="utf-8") as out:
                out.write(json.dumps(result) + "\n")
                out.flush()
                os.fsync(out.fileno())
