"""The file that a program is in: one ``.npz`` without pickles; the same content, the same bytes."""

from __future__ import annotations

import io
import json
import os
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from halut.errors import HalutError
from halut.files import atomic_write
from halut.output import CONSTANTS, OutputStage

__all__ = ["ARRAYS", "FORMAT_VERSION", "KIND", "read_program", "write_program"]

FORMAT_VERSION = 4
"""Of programs with windows. Version 3 has sums, version 2 neither; programs are written in the
least version that has all of theirs. Version 1 has ``fp16`` and integers as its only input formats,
integer tables, raw results."""

READABLE_VERSIONS = (1, 2, 3, 4)

_OF_ENCODERS = {3: "signs", 4: "places"}
"""The array that a version has, and no other."""

KIND = "halut-program"

ARRAYS = ("split_dims", "thresholds", "lut", "lut_scale", "lut_offset", "input_scale",
          "input_offset")  # fmt: skip
"""The arrays that every program has."""

_FIRST_FIELDS = ("kind", "format_version", "n_features", "input_format", "lut_bits", *ARRAYS,
                 "provenance")  # fmt: skip

_Made = TypeVar("_Made")


def write_program(fields: Mapping[str, Any], path: str | os.PathLike[str]) -> Path:
    """Do what `Program.save` says, with the fields of a program by their names."""
    output = fields["output"]
    more = {v: name for v, name in _OF_ENCODERS.items() if fields[name] is not None}
    content: dict[str, Any] = {
        "kind": np.array(KIND),
        "format_version": np.array(max(more, default=2), dtype="<i4"),
        "n_features": np.array(fields["n_features"], dtype="<i8"),
        "input_format": np.array(fields["input_format"]),
        "lut_bits": np.array(fields["lut_bits"], dtype="<i4"),
        "lut_format": np.array(fields["lut_format"]),
        "output_format": np.array(output.format),
        "relu": np.array(output.relu),
    }
    arrays = {name: fields[name] for name in ARRAYS}
    arrays |= {name: fields[name] for name in more.values()}
    arrays |= {f"output_{name}": array for name, array in output.constants.items()}
    for name, array in arrays.items():
        content[name] = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<")))
    content["provenance"] = np.array(json.dumps(fields["provenance"], sort_keys=True))
    # Written here rather than by np.savez so that time stamp, order and compression are ours
    # and do not change between versions of NumPy.
    with atomic_write(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, array in content.items():
            member = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            member.compress_type = zipfile.ZIP_STORED
            member.create_system = 3
            member.external_attr = 0o644 << 16
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, array, version=(1, 0), allow_pickle=False)
            archive.writestr(member, buffer.getvalue())
    return Path(path)


def read_program(path: str | os.PathLike[str], make: Callable[..., _Made]) -> _Made:
    """Do what `Program.load` says: give the fields of the file to `make`."""
    try:
        with open(path, "rb") as file:
            if not zipfile.is_zipfile(file):
                raise HalutError("file must be a program (.npz), not something else")
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                content = {name: archive[name] for name in archive.files}
        return make(**_fields_of(content))
    except OSError as error:
        raise HalutError(f"program must be readable: {error.strerror} ({path})") from None
    except HalutError as error:
        raise HalutError(f"{error} ({path})") from None
    except (ValueError, KeyError, EOFError, RuntimeError, TypeError,
            UnicodeError, MemoryError, zipfile.BadZipFile, zlib.error) as error:  # fmt: skip
        reason = " ".join(str(error).split()) or type(error).__name__
        raise HalutError(f"program must be undamaged: {reason} ({path})") from None


def _fields_of(content: dict[str, NDArray[Any]]) -> dict[str, Any]:
    def scalar(name: str, kinds: str) -> Any:
        value = content[name]
        if value.shape != () or value.dtype.kind not in kinds:
            raise HalutError(f"{name} must be a single value, not {value.dtype}{value.shape}")
        return value.item()

    if "kind" not in content or scalar("kind", "U") != KIND:
        raise HalutError(f'kind must be "{KIND}": this is not a program')
    if "format_version" not in content:
        raise HalutError("format_version must be present")
    version = scalar("format_version", "iu")
    if version not in READABLE_VERSIONS:
        *first, last = map(str, READABLE_VERSIONS)
        raise HalutError(f"format_version must be {', '.join(first)} or {last}, not {version}")
    wanted: tuple[str, ...] = _FIRST_FIELDS
    constants: dict[str, str] = {}
    output = OutputStage()
    if version > 1:
        wanted = (*wanted, "lut_format", "output_format", "relu")
        if "output_format" in content:
            output_format = scalar("output_format", "U")
            constants = {name: f"output_{name}" for name in CONSTANTS.get(output_format, {})}
            if output_format == "fp16" and "lut_format" in content:
                plain = scalar("lut_format", "U") == "fp16"
                constants = {} if plain else constants
            wanted = (*wanted, *constants.values())
    if version in _OF_ENCODERS:
        wanted = (*wanted, _OF_ENCODERS[version])
    missing = [name for name in wanted if name not in content]
    if missing:
        raise HalutError(f"fields must be complete, but {', '.join(missing)} is missing")
    unknown = [name for name in content if name not in wanted]
    if unknown:
        raise HalutError(f"fields must be known, but {', '.join(unknown)} is not")
    try:
        provenance = json.loads(scalar("provenance", "U"))
    except json.JSONDecodeError:
        raise HalutError("provenance must be JSON") from None
    if version > 1:
        output = OutputStage(
            format=output_format,
            relu=scalar("relu", "b"),
            **{name: content[stored] for name, stored in constants.items()},
        )
    return {
        "n_features": scalar("n_features", "iu"),
        "input_format": scalar("input_format", "U"),
        "lut_bits": scalar("lut_bits", "iu"),
        "lut_format": scalar("lut_format", "U") if version > 1 else "int",
        **{name: content[name] for name in ARRAYS},
        **{name: content.get(name) for name in _OF_ENCODERS.values()},
        "output": output,
        "provenance": provenance,
    }
