"""Compiles the firmware: two networks, their layers in all ways, the driver, and the checks."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from halut import driver, process
from halut.errors import CheckFailed, HalutError
from halut.files import write_text

__all__ = ["COMPILER", "DRIVER", "SOURCES", "build_board_firmware", "build_firmware"]

COMPILER = "riscv64-unknown-elf-gcc"
SOURCES = Path(__file__).with_name("firmware")
DRIVER = Path(driver.__file__).parent

# -march=rv32im_zicsr would pick the libraries for 64 bits.
_FLAGS = [
    "-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", "-march=rv32im", "-mabi=ilp32",
    "-mcmodel=medany", "-ffp-contract=off", "-ffreestanding", "-fno-builtin",
    "-ffunction-sections", "-fdata-sections",
]  # fmt: skip
_WATCHED = [
    "halut_look_up_i8_packed", "halut_look_up_i8_i8", "halut_look_up_i8_i4",
    "halut_look_up_f32_packed", "halut_look_up_f32_i8", "halut_look_up_f32_i4", "halut_product_i8",
    "halut_max_i8", "halut_mean_i8", "halut_add_i8", "halut_quantise",
]  # fmt: skip


def build_firmware(
    plain: Path, looked_up: Path, headers: Sequence[Path], folder: Path, rom: int, ram: int
) -> Path:
    """Compile the firmware.

    Parameters
    ----------
    plain, looked_up : Path
        Folders of the two networks in C.
    headers : sequence of Path
        Folders with ``system.h``, ``expected.h``, ``halut_cfu.h``, ``halut_axi.h`` and
        ``accelerator_image.h``.
    folder : Path
        For objects and the program.
    rom, ram : int
        Bytes of the two memories.

    Returns
    -------
    Path
        Content of the read-only memory, a word in hexadecimal a line, as ``$readmemh`` takes it.

    Raises
    ------
    HalutError
        When the compiler is missing.
    CheckFailed
        When it refuses the sources, or they do not fit the memories.
    """
    units: list[_Unit] = [
        ("plain", "one_network.c", plain, ["-DNETWORK=plain"]),
        ("looked_up", "one_network.c", looked_up, ["-DNETWORK=looked_up"]),
    ]
    for name in ("driver", "layers", "watch", "main", "start"):
        units.append((name, f"{name}.c", looked_up, []))
    return _build(units, headers, folder, rom, ram, _WATCHED)


def build_board_firmware(
    looked_up: Path, headers: Sequence[Path], folder: Path, rom: int, ram: int
) -> Path:
    """Compile the firmware of a board: one network, looked up with custom instructions.

    Parameters, results and errors are those of `build_firmware`; there are no files of an
    accelerator.
    """
    units: list[_Unit] = [("looked_up", "one_network.c", looked_up, ["-DNETWORK=looked_up"])]
    for name in ("layers", "board", "start"):
        units.append((name, f"{name}.c", looked_up, ["-DWITHOUT_ACCELERATOR"]))
    return _build(units, headers, folder, rom, ram, [])


# A unit's name, its source, the folder of its network, what is defined.
_Unit = tuple[str, str, Path, list[str]]


def _build(
    units: Sequence[_Unit],
    headers: Sequence[Path],
    folder: Path,
    rom: int,
    ram: int,
    watched: Sequence[str],
) -> Path:
    """Compile units, link them, and write the content of the read-only memory."""
    if shutil.which(COMPILER) is None:
        raise HalutError(f"{COMPILER} must be on PATH (apt install gcc-riscv64-unknown-elf)")
    folder.mkdir(parents=True, exist_ok=True)
    includes = [f"-I{SOURCES}", f"-I{DRIVER}", *(f"-I{header}" for header in headers)]
    objects = []
    for name, source, network, defines in units:
        objects.append(str(folder / f"{name}.o"))
        _run(
            [COMPILER, *_FLAGS, *defines, *includes, f"-I{network}", "-c", str(SOURCES / source),
             "-o", objects[-1]],
            folder / f"{name}.log",
        )  # fmt: skip
    program, image = folder / "firmware.elf", folder / "firmware.bin"
    _run(
        [COMPILER, *_FLAGS, "-nostdlib", f"-Wl,--defsym=ROM_BYTES={rom},--defsym=RAM_BYTES={ram}",
         "-Wl,--gc-sections", *(f"-Wl,--wrap={name}" for name in watched), "-T",
         str(SOURCES / "system.ld"), "-o", str(program), *objects, "-lgcc"],
        folder / "link.log",
    )  # fmt: skip
    copy = COMPILER.replace("gcc", "objcopy")
    _run([copy, "-O", "binary", str(program), str(image)], folder / "objcopy.log")
    content = image.read_bytes()
    words = np.frombuffer(content + bytes(-len(content) % 4), dtype="<u4")
    result = folder / "rom.init"
    write_text(result, "".join(f"{word:08x}\n" for word in words.tolist()))
    return result


def _run(command: Sequence[str], log: Path) -> None:
    done = process.run(command, log=log, timeout_s=300)
    if done.status != 0:
        lines = log.read_text(errors="replace").strip().splitlines() or ["no message"]
        raise CheckFailed(
            f"{Path(command[0]).name} must accept its input, not say: {lines[0]} ({log})"
        )
