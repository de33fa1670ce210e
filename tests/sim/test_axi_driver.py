"""The drivers on the Verilog: examples are compiled and run, and refuse what they must."""

from __future__ import annotations

import runpy
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from halut.driver import Device, DeviceError
from rtl_gen.axi.config import AxiConfig
from rtl_gen.axi.generate import register_files
from rtl_gen.axi.image import result_array, row_bytes
from rtl_gen.axi.image_file import image_file
from sim import runner
from sim.axi import build_axi, simulate_driver, write_job
from tests.rtl_gen.axi.support import CONFIGS
from tests.sim.axi_examples import example
from tests.sim.support import QUICK

ROOT = Path(__file__).parents[2]
DRIVER = ROOT / "halut" / "driver"
FLAGS = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O1"]


def _compiled(folder: Path, name: str, config: AxiConfig, main: str = "axi_driver_main.c") -> str:
    """The example in C, as a program of the host."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler (apt install gcc)")
    place = folder / name
    place.mkdir()
    (place / "halut_axi.h").write_text(register_files(config)[".h"])
    paths = [f"-I{path}" for path in (place, DRIVER, ROOT / "examples")]
    source = ROOT / "tests" / "sim" / main
    command = [compiler, *FLAGS, "-D_DEFAULT_SOURCE", *paths, str(source), "-o", str(place / "run")]
    subprocess.run(command, check=True)
    return str(place / "run")


@pytest.mark.sim
@pytest.mark.parametrize("name", ["small"])
def test_drivers(name: str, tmp_path: Path) -> None:
    pytest.importorskip("cocotbext.axi", reason="cocotbext-axi is not installed")
    config = CONFIGS[name]
    program, words, expected = example(config)
    files = register_files(config)
    texts = {"registers.h": files[".h"], "description.py": files[".py"]}
    texts["other.py"] = register_files(CONFIGS["tiled"])[".py"]
    write_job(tmp_path, config, program, words, expected, **texts)
    (tmp_path / "image.bin").write_bytes(image_file(config, [program, program]))
    env = {
        "HALUT_JOB": str(tmp_path),
        "HALUT_EXAMPLE": str(ROOT / "examples" / "axi_driver.py"),
        "HALUT_PROGRAM": _compiled(tmp_path, "right", config),
        "HALUT_OTHER": _compiled(tmp_path, "other", CONFIGS["tiled"]),
    }
    built = build_axi(config, simulator=QUICK)
    tests = ("python_example", "python_chain", "python_refuses", "c_example")
    done = runner.run(built, "sim.benches.axi_driver", testcase=tests, env=env)
    assert len(done.tests) == len(tests)


@pytest.mark.sim
def test_script_on_a_desk() -> None:
    """What runs on a board runs on the simulation, by one call."""
    pytest.importorskip("cocotbext.axi", reason="cocotbext-axi is not installed")
    config = CONFIGS["small"]
    program, words, expected = example(config)
    script = ROOT / "examples" / "axi_driver.py"
    data = simulate_driver(config, script, program, row_bytes(config, words), simulator=QUICK)
    assert np.array_equal(result_array(config, data, len(words)), expected)


def test_a_chain_that_the_queue_does_not_take_changes_nothing_in_c(tmp_path: Path) -> None:
    config = CONFIGS["small"]
    program, *_ = example(config)
    queue = _compiled(tmp_path, "queue", config, "axi_queue_main.c")
    image = image_file(config, [program, program])
    assert subprocess.run([queue], input=image, check=False).returncode == 0


class _Block:
    """Registers of a block that does nothing, and memory that counts what is written."""

    address, size = 0, 1 << 16

    def __init__(self, answers: dict[int, int]) -> None:
        self.answers, self.data, self.writes = answers, bytearray(self.size), 0

    def read(self, address: int, size: int | None = None) -> Any:
        if size is None:
            return self.answers.get(address, 0)
        return bytes(self.data[address : address + size])

    def write(self, address: int, value: Any) -> None:
        if isinstance(value, bytes):
            self.data[address : address + len(value)] = value
            self.writes += 1


def test_a_chain_that_the_queue_does_not_take_changes_nothing_in_python(tmp_path: Path) -> None:
    config = CONFIGS["small"]
    program, *_ = example(config)
    description = tmp_path / "description.py"
    description.write_text(register_files(config)[".py"])
    names = runpy.run_path(str(description))
    offsets, hashes = names["OFFSETS"], names["CONFIG_HASH"]
    answers = {
        offsets["ID"]: names["IDENTITY"], offsets["VERSION"]: names["VERSION"][0] << 16,
        offsets["CONFIG_HASH0"]: hashes[0], offsets["CONFIG_HASH1"]: hashes[1],
    }  # fmt: skip
    block = _Block(answers)
    device = Device(description, block, block)
    device.place(image_file(config, [program, program]))
    low, _ = names["FIELDS"]["STATUS.full"]
    answers[offsets["STATUS"]] = 1 << low
    before = block.writes
    for _ in range(3):
        with pytest.raises(DeviceError, match="the queue must take a chain, but it is full"):
            device.chain([(0, 64, 128, 1), (1, 64, 256, 1)])
    assert block.writes == before > 0
    answers[offsets["STATUS"]] = 0
    device.chain([(0, 64, 128, 1), (1, 64, 256, 1)])
    assert block.writes > before


@pytest.mark.needs("riscv64-unknown-elf-gcc")
def test_freestanding(tmp_path: Path) -> None:
    """For RV32 without a library; nothing is left to be linked."""
    (tmp_path / "halut_axi.h").write_text(register_files(CONFIGS["odd"])[".h"])
    cross = "riscv64-unknown-elf-"
    flags = [
        *FLAGS,
        "-march=rv32im",
        "-mabi=ilp32",
        "-ffreestanding",
        f"-I{tmp_path}",
        f"-I{DRIVER}",
    ]
    source = str(DRIVER / "halut_driver.c")
    subprocess.run(
        [f"{cross}gcc", *flags, "-Os", "-c", source, "-o", "d.o"], cwd=tmp_path, check=True
    )
    left = subprocess.run(
        [f"{cross}nm", "--undefined-only", "d.o"], cwd=tmp_path, check=True,
        capture_output=True, text=True,
    )  # fmt: skip
    assert left.stdout == ""
