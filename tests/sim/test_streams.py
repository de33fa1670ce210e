"""The simulator runner, the stream drivers and monitors and the scoreboard can fail, and do not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from halut.errors import HalutError
from sim import packing, runner
from sim.scoreboard import Mismatch, Scoreboard

VERILOG = Path(__file__).with_name("register_slice.v").read_text()
BENCH = "tests.sim.bench_slice"


@pytest.fixture(params=runner.SIMULATORS)
def simulator(request: pytest.FixtureRequest) -> str:
    """Each simulator in turn; skipped where it is missing."""
    try:
        return runner.pick_simulator(request.param)
    except HalutError as error:
        pytest.skip(str(error))


def _run(simulator: str, *, bug: int = 0, width: int = 8) -> runner.RunResult:
    built = runner.build(
        VERILOG,
        "register_slice",
        parameters={"WIDTH": width},
        simulator=simulator,
        strict=False,
    )
    env = {"WIDTH": str(width), "HALUT_BUG": str(bug)}
    return runner.run(built, BENCH, env=env, timeout_s=120)


@pytest.mark.sim
@pytest.mark.parametrize("width", [8, 300])
def test_a_right_device_passes_every_stall_pattern(simulator: str, width: int) -> None:
    result = _run(simulator, width=width)
    assert len(result.tests) == 4


@pytest.mark.sim
@pytest.mark.parametrize(
    ("bug", "message"),
    [
        (1, "imeout|must stay"),  # valid waits for ready
        (2, "payload must stay"),
        (3, "valid must stay"),
        (4, "payload must stay"),  # an item is overwritten
        (5, "item [0-9]+ of 200|not expected"),  # an item comes twice
        (6, "item 19 of 200: must be"),  # one wrong bit
        (7, "item [0-9]+ of 200|not expected"),  # listens without valid
    ],
)
def test_every_bug_is_caught(simulator: str, bug: int, message: str) -> None:
    with pytest.raises(runner.SimulationFailed, match=message):
        _run(simulator, bug=bug)


@pytest.mark.sim
def test_builds_are_shared_and_interrupted_ones_done_again(tmp_path: Path) -> None:
    def build(**changes: object) -> runner.Build:
        return runner.build(VERILOG, "register_slice", strict=False, root=tmp_path, **changes)

    built = build()
    log = built.directory / "build.log"
    first = log.stat().st_mtime_ns
    assert build().directory == built.directory and log.stat().st_mtime_ns == first
    assert build(parameters={"WIDTH": 9}).directory != built.directory
    # As if it had been killed: an object file cut short, and no sign of an end.
    (built.directory / ".built").unlink()
    for path in built.directory.glob("*.o"):
        path.write_bytes(path.read_bytes()[:100])
    env = {"WIDTH": "8", "HALUT_BUG": "0"}
    assert len(runner.run(build(), BENCH, env=env).tests) == 4


@pytest.mark.sim
def test_failures_say_what_and_where(tmp_path: Path) -> None:
    with pytest.raises(runner.SimulationFailed, match=r"build of register_slice .*syntax error"):
        runner.build(VERILOG.replace("endmodule", ""), "register_slice", root=tmp_path)
    # Warnings count, unless they are waived.
    unused = VERILOG.replace("reg waited;", "reg waited; wire [7:0] spare = waited;")
    with pytest.raises(runner.SimulationFailed, match=r"failed: %Warning-WIDTH"):
        runner.build(unused, "register_slice", root=tmp_path, simulator="verilator")
    built = runner.build(VERILOG, "register_slice", strict=False, root=tmp_path)
    with pytest.raises(runner.SimulationFailed, match="no test ran"):
        runner.run(built, BENCH, testcase="another")
    with pytest.raises(runner.SimulationFailed, match=r"ended after 0.05 s"):
        runner.run(built, BENCH, timeout_s=0.05)


def test_scoreboard_counts() -> None:
    board = Scoreboard("x")
    with pytest.raises(Mismatch, match="nothing was expected"):
        board.finish()
    board.expect([1, 2])
    board.receive(1)
    with pytest.raises(Mismatch, match="received 1 of 2 items; the next one must be 2"):
        board.finish()
    with pytest.raises(Mismatch, match="item 1 of 2: must be 2, not 3"):
        board.receive(3)
    board = Scoreboard("x")
    board.expect([(1, 0)])
    board.receive((1, 0))
    board.finish()
    with pytest.raises(Mismatch, match=r"item 1 was not expected: \(1, 0\)"):
        board.receive((1, 0))


def test_a_tolerant_scoreboard_counts_what_is_wrong() -> None:
    board = Scoreboard("x")
    board.tolerant = True
    board.expect([1, 2, 3])
    for item in (1, 7, 3, 4):  # one is wrong, one is too many
        board.receive(item)
    assert (board.n_wrong, board.n_received) == (2, 2)
    with pytest.raises(Mismatch, match="received 2 of 3"):
        board.finish()


@pytest.mark.parametrize("bits", [1, 3, 8, 12, 16, 33])
@pytest.mark.parametrize("signed", [False, True])
def test_packing_is_reversible(bits: int, signed: bool) -> None:
    rng = np.random.default_rng(bits)
    low, high = (-(1 << (bits - 1)), 1 << (bits - 1)) if signed else (0, 1 << bits)
    fields = rng.integers(low, high, size=(50, 7), endpoint=False)
    fields[0], fields[1] = low, high - 1
    words = packing.pack(fields, bits)
    # By hand: field k of a word is at bit k * bits.
    for row, word in zip(fields, words, strict=True):
        assert word == sum((int(value) % (1 << bits)) << (k * bits) for k, value in enumerate(row))
    assert np.array_equal(packing.unpack(words, 7, bits, signed=signed), fields)


def test_packing_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="must fit in 4 bits"):
        packing.pack(np.array([[16]]), 4)
    with pytest.raises(ValueError, match="must fit in 4 bits"):
        packing.pack(np.array([[-9]]), 4)
    assert packing.pack(np.zeros((0, 3), dtype=int), 4) == []
