"""Find, build and load the library of native kernels, and choose what this processor runs.

An installed package brings the library along, when there was a C compiler. A source tree builds it
once, in ``build/native``, under a name made of its sources and the compiler. Where neither works,
NumPy computes everything, with the same bits.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

from halut import process
from halut.errors import HalutError
from halut.files import atomic_write, locked, write_text
from halut.native.sources import FLAGS, FOLDER, LIBRARIES, SOURCES, fingerprint

__all__ = ["VARIABLE", "VARIANTS", "Kernels", "Stage", "build", "kernels", "status",
           "variants"]  # fmt: skip

VARIABLE = "HALUT_NATIVE"
"""The environment variable that forces a variant."""

VARIANTS = ("portable", "avx2", "avx512", "vnni", "neon")
"""What the kernels are compiled for, the slowest first; numbered as in kernels.c."""

_BUILD_S = 300.0

_SIZE, _POINTER = ctypes.c_size_t, ctypes.c_void_p
_INT, _INT32 = ctypes.c_int, ctypes.c_int32


class Stage(ctypes.Structure):
    """`Stage` of stages.h: what is done with sums before they leave."""

    _fields_ = [("kind", _INT), ("scale", _POINTER), ("offset", _POINTER)]


# variant, rows, C, T, split dimensions, thresholds
_TREES = [_INT, _POINTER, _SIZE, _SIZE, _POINTER, _POINTER]
_CODES = [_INT, _POINTER, _SIZE, _SIZE, _SIZE, _SIZE]  # variant, codes, N, C, K, M
_STAGE = ctypes.POINTER(Stage)
_ARGUMENTS = {
    "halut_supports": [_INT],
    "halut_table_bytes": [_INT, _SIZE, _SIZE, _SIZE],
    "halut_make_tables": [_INT, _INT, _POINTER, _POINTER, _SIZE, _SIZE, _SIZE, _POINTER],
    "halut_encode": [*_TREES, _POINTER],
    "halut_product": [*_TREES, _SIZE, _INT, _POINTER, _STAGE, _POINTER],
    "halut_look_up": [*_CODES, _INT, _POINTER, _INT32, _INT32, _SIZE, _STAGE, _POINTER],
    "halut_add_in_order": [*_CODES, _POINTER, _POINTER, _SIZE, _SIZE, _POINTER],
    "halut_count_meetings": [_INT, _POINTER, _SIZE, _SIZE, _SIZE, _POINTER],
    "halut_table_sums": [_INT, _POINTER, _SIZE, _SIZE, _SIZE, _POINTER, _SIZE, _POINTER],
    "halut_learn_tree": [
        _INT,
        _POINTER,
        _SIZE,
        _SIZE,
        _POINTER,
        _SIZE,
        _SIZE,
        _SIZE,
        ctypes.c_double,
        _SIZE,
        *[_POINTER] * 4,
    ],
    "halut_column_sums": [_INT, _POINTER, _SIZE, _SIZE, _POINTER, _POINTER, _SIZE, _POINTER],
    "halut_add_entries": [_INT, _POINTER, _SIZE, _POINTER, _SIZE, _INT, _POINTER],
    "halut_exchange_entries": [_INT, *[_POINTER] * 4, *[_SIZE] * 3, _POINTER, _POINTER],
    "halut_columns": [_INT, _POINTER, _SIZE, _SIZE, _POINTER, _SIZE],
    "halut_add_up_rows": [_INT, _POINTER, _SIZE, _SIZE, _POINTER],
    "halut_solve": [_INT, _POINTER, *[_SIZE] * 3],
    "halut_decisions": [_INT, _POINTER, _SIZE, _SIZE, *[_POINTER] * 4],
    "halut_pack": [_INT, *[_SIZE] * 4, _POINTER, _POINTER],
    "halut_table_ranges": [_INT, _POINTER, _SIZE, _SIZE, _POINTER, _POINTER],
    "halut_quantise": [
        _INT,
        _POINTER,
        _SIZE,
        _SIZE,
        _SIZE,
        _POINTER,
        _POINTER,
        ctypes.c_float,
        _POINTER,
    ],
    "halut_quantise_packed": [
        _INT,
        _POINTER,
        *[_SIZE] * 4,
        _POINTER,
        _POINTER,
        ctypes.c_float,
        _POINTER,
    ],
    "halut_bands": [_INT, _POINTER],
    "halut_convolve": [_INT, *[_POINTER] * 13, _SIZE, _SIZE],
    "halut_pieces": [_INT, _POINTER],
    "halut_convolve_backward": [_INT, *[_POINTER] * 17, _SIZE, _SIZE],
    "halut_tree_floats": [_INT, _SIZE],
    "halut_make_trees": [_INT, *[_SIZE] * 3, _POINTER, _POINTER],
    "halut_multiplies": [_INT],
    "halut_network": [_INT, _POINTER, _SIZE, _POINTER, _SIZE],
}
_RESULTS = {"halut_table_bytes": _SIZE, "halut_make_tables": None}


class _Missing(Exception):
    """Why there is no library."""


class _Interrupted(_Missing):
    """The compiler was killed: perhaps it works the next time."""


@dataclass(frozen=True)
class Kernels:
    """One variant of the kernels.

    Attributes
    ----------
    library : ctypes.CDLL
    variant : str
        One of `VARIANTS`.
    """

    library: ctypes.CDLL
    variant: str

    @property
    def index(self) -> int:
        """The variant's number."""
        return VARIANTS.index(self.variant)

    def call(self, name: str, *arguments: object) -> bool:
        """Call a function of the library; return whether a value that was compared was NaN.

        Raises
        ------
        MemoryError
            When it has not enough.
        """
        status = getattr(self.library, name)(self.index, *arguments)
        if status == 1:
            raise MemoryError(f"not enough memory for {name}")
        return bool(status)


def _load(path: Path) -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(str(path))
        sources = ctypes.c_char_p.in_dll(library, "halut_sources").value
        for name, arguments in _ARGUMENTS.items():
            getattr(library, name).argtypes = arguments
            getattr(library, name).restype = _RESULTS.get(name, _INT)
    except (OSError, ValueError, AttributeError) as error:
        raise _Missing(f"{path.name} cannot be loaded: {error}") from None
    if sources != fingerprint().encode():
        raise _Missing(f"{path.name} is of other sources")
    return library


def _compiler() -> list[str]:
    """Return the command of the C compiler: that of $CC, or the first of the usual names."""
    given = os.environ.get("CC", "")
    try:
        words = shlex.split(given)
    except ValueError:
        words = [given]
    for command in [words] if words else [["cc"], ["gcc"], ["clang"]]:
        found = shutil.which(command[0])
        if found:
            return [found, *command[1:]]
    raise _Missing(f"no C compiler: {words[0] if words else 'cc'} is not on PATH")


def build(folder: Path, *, wait: bool = True) -> Path:
    """Return the library in a folder, built by the C compiler that is there if it is not yet.

    Parameters
    ----------
    folder : pathlib.Path
    wait : bool, default True
        Wait while another process builds there, or refuse.

    Raises
    ------
    HalutError
        When there is no compiler, it fails, or the folder cannot be written.
    """
    try:
        return _build(folder, wait=wait)
    except _Missing as missing:
        raise HalutError(f"native library must be buildable, but {missing}") from None


def _build(folder: Path, *, wait: bool) -> Path:
    command = _compiler()
    at = os.stat(command[0])
    key = hashlib.sha256(repr((fingerprint(), command, at.st_mtime_ns, at.st_size)).encode())
    path = folder / f"kernels-{key.hexdigest()[:16]}.so"
    failed = path.with_suffix(".failed")
    if not path.exists() and not failed.exists():
        with locked(folder, wait=wait):
            if not path.exists() and not failed.exists():
                _compile(command, path, failed)
    if not path.exists():
        raise _Missing(f"{command[0]} failed ({failed})")
    return path


def _compile(command: list[str], path: Path, failed: Path) -> None:
    """Write the library, or what the compiler said."""
    said = "it gave no library"
    try:
        with atomic_write(path) as temporary:
            done = process.run(
                [*command, *FLAGS, "-fPIC", "-shared", f'-DHALUT_SOURCES="{fingerprint()}"',
                 *(FOLDER / name for name in SOURCES), "-o", temporary,
                 *(f"-l{name}" for name in LIBRARIES)],
                timeout_s=_BUILD_S,
            )  # fmt: skip
            said = done.output + done.errors or said
            if (done.status or 0) < 0:
                raise _Interrupted(f"{command[0]} was killed")
            if done.status or not temporary.stat().st_size:
                raise _Missing(said)
            _load(temporary)
    except _Interrupted:
        raise
    except (_Missing, OSError) as error:
        write_text(failed, f"{error}\n{said}")


_loaded: dict[str, ctypes.CDLL] = {}
"""The library, once it is loaded, under its only key."""

_chosen: dict[str, Kernels] = {}
"""Kernels that were chosen from it, by the value of ``HALUT_NATIVE``."""

_missing: dict[tuple[str | None, ...], str] = {}
"""Why there is none, once that is known, for the $CC and $PATH that were asked."""


def _library(*, wait: bool) -> ctypes.CDLL:
    """Return the library: the installed one, or that of the source tree's ``build/native``."""
    if "library" in _loaded:
        return _loaded["library"]
    asked = os.environ.get("CC"), os.environ.get("PATH")
    if asked in _missing:
        raise _Missing(_missing[asked])
    try:
        installed = sorted(FOLDER.glob("_kernels*"))
        if installed:
            try:
                _loaded["library"] = _load(installed[0])
                return _loaded["library"]
            except _Missing as missing:
                reason = str(missing)
        else:
            reason = "it was installed without a C compiler"
        root = FOLDER.parents[1]
        if not (root / "pyproject.toml").is_file():
            raise _Missing(reason)
        try:
            _loaded["library"] = _load(_build(root / "build" / "native", wait=wait))
        except (HalutError, OSError) as error:
            # Perhaps only for now, while another process builds it.
            raise _Missing(str(error)) from None
    except _Missing as missing:
        if "used by another run" not in str(missing):
            _missing[asked] = str(missing)
        raise
    return _loaded["library"]


def variants() -> tuple[str, ...]:
    """Return the variants that this processor runs, the fastest last; none without a library."""
    try:
        library = _library(wait=True)
    except _Missing:
        return ()
    return tuple(name for k, name in enumerate(VARIANTS) if library.halut_supports(k))


def kernels() -> Kernels | None:
    """Return the kernels to use, or None where NumPy is to compute.

    The fastest variant that the processor runs, or the one that ``HALUT_NATIVE`` names; ``off``
    means NumPy.

    Raises
    ------
    HalutError
        When ``HALUT_NATIVE`` is wrong, or names what cannot be used here.
    """
    wanted = os.environ.get(VARIABLE, "")
    if wanted in _chosen:
        return _chosen[wanted]
    if wanted == "off":
        return None
    if wanted and wanted not in VARIANTS:
        raise HalutError(f"{VARIABLE} must be off, {', '.join(VARIANTS)} or empty, not {wanted!r}")
    try:
        library = _library(wait=bool(wanted))
    except _Missing as missing:
        if wanted:
            raise HalutError(
                f"{VARIABLE} must be off without a native library, not {wanted} ({missing})"
            ) from None
        return None
    for k in range(len(VARIANTS) - 1, -1, -1):
        if wanted in ("", VARIANTS[k]) and library.halut_supports(k):
            return _chosen.setdefault(wanted, Kernels(library, VARIANTS[k]))
    raise HalutError(
        f"{VARIABLE} must be off, {' or '.join(variants())} on this processor, not {wanted}"
    )


def status() -> tuple[str | None, str]:
    """Return the variant that runs, or None, and where it comes from or why there is none."""
    try:
        found = kernels()
        if found is None and os.environ.get(VARIABLE) != "off":
            _library(wait=True)  # another process may be building it
            found = kernels()
    except (HalutError, _Missing) as error:
        return None, str(error)
    if found is None:
        return None, f"{VARIABLE}=off"
    return found.variant, found.library._name
