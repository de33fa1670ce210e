import numpy as np
import pytest

from flow.power.activity import read_vcd
from halut.errors import CheckFailed

# Period 100 ps, two cycles; the clock rises at 100 and 200. In brackets what is settled.
DUMP = """$timescale 1ps $end
$scope module t $end
$var wire 1 ! n0 $end
$var wire 1 " n1 $end
$var wire 1 # n2 $end
$var wire 1 % n3 $end
$var wire 1 " n4 $end
$var wire 8 $ bus [7:0] $end
$var wire 1 & other $end
$upscope $end
$enddefinitions $end
#99
$dumpvars
0!
0"
1#
1%
b0 $
x&
$end
#100
1!
#110
1"
#120
0"
#130
1"
0#
#150
0!
b11 $
#200
1!
#210
0"
#215
1"
#250
0!
#299
1#
#300
"""


def _read(tmp_path, text, **changes):
    path = tmp_path / "a.vcd"
    path.write_text(text)
    arguments = {"n_nets": 6, "period_ps": 100, "cycles": 2, "clock_nets": np.array([0])}
    return read_vcd(path, **(arguments | changes))


def test_counts_of_a_dump_computed_by_hand(tmp_path):
    activity = _read(tmp_path, DUMP)
    # n0: the clock. n1: rises, glitches low, falls and rises again: 5 changes, 1 that stays.
    # n2: falls; its rise at 299 is after the window. n3 stands still. n4 is wired to n1.
    # n5 is not in the dump.
    assert activity.toggles.tolist() == [2.0, 2.5, 0.5, 0.0, 2.5, 0.0]
    assert activity.settled.tolist() == [2.0, 0.5, 0.5, 0.0, 0.5, 0.0]
    high = [100, 10 + 80 + 84, 31, 200, 10 + 80 + 84, 0]
    assert activity.duty.tolist() == pytest.approx([h / 200 for h in high])


@pytest.mark.parametrize("block", [64, 97, 1 << 20])
def test_the_size_of_the_blocks_does_not_matter(tmp_path, monkeypatch, block):
    monkeypatch.setattr("flow.power.activity._BLOCK", block)
    rng = np.random.default_rng(3)
    lines = [DUMP[: DUMP.index("#100")]]
    expected = np.zeros(4, int)
    state = [0, 0, 1, 1]
    for time in range(100, 2000, 5):
        lines.append(f"#{time}\n")
        for net, code in enumerate('!"#%'):
            if rng.random() < 0.4:
                state[net] ^= 1
                expected[net] += 1
                lines.append(f"{state[net]}{code}\n")
    lines.append("#2100\n")
    activity = _read(tmp_path, "".join(lines), cycles=19)
    assert (activity.toggles[:4] * 19).round().astype(int).tolist() == expected.tolist()


def test_a_dump_that_ends_early_is_an_error(tmp_path):
    with pytest.raises(CheckFailed, match="must cover 9 cycles"):
        _read(tmp_path, DUMP, cycles=9)


def test_an_unknown_value_is_an_error(tmp_path):
    with pytest.raises(CheckFailed, match="0 or 1 in the activity window, unlike n1"):
        _read(tmp_path, DUMP.replace('#215\n1"', '#215\nx"'))


def test_a_dump_of_something_else_is_an_error(tmp_path):
    with pytest.raises(CheckFailed, match="must hold the netlist's nets"):
        _read(tmp_path, DUMP.replace(" n", " m"))


def test_units_of_time(tmp_path):
    in_ns = DUMP.replace("1ps", "1 ns")
    activity = _read(tmp_path, in_ns, period_ps=100_000)
    assert activity.toggles.tolist() == _read(tmp_path, DUMP).toggles.tolist()
    with pytest.raises(CheckFailed, match="must be in ps or ns, not fs"):
        _read(tmp_path, DUMP.replace("1ps", "1fs"))
