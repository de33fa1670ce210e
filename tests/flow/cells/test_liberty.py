import gzip

import pytest

from flow.cells.liberty import load_libraries
from flow.cells.liberty_writer import write_liberty
from halut.errors import HalutError
from tests.flow.support import LIBRARY, tiny_library


def test_units_and_axes_are_normalised(tmp_path):
    path = tmp_path / "a.lib"
    path.write_text(
        """library (a) { time_unit : "1ps"; capacitive_load_unit (1, pf); voltage_unit : "1V";
        leakage_power_unit : "1uW"; nom_voltage : 1.5;
        lu_table_template (t) { variable_1 : total_output_net_capacitance;
          variable_2 : input_net_transition; index_1 ("1, 2"); index_2 ("10, 20, 30"); }
        cell (X) { area : 2.5; cell_leakage_power : 3;
          pin (A) { direction : input; capacitance : 0.002; }
          pin (Y) { direction : output; function : "A";
            timing () { related_pin : "A"; timing_sense : positive_unate;
              cell_rise (t) { values ("1, 2, 3", "4, 5, 6"); }
              rise_transition (t) { values ("1, 2, 3", "4, 5, 6"); } }
            internal_power () { related_pin : "A";
              rise_power (t) { values ("1, 2, 3", "4, 5, 6"); } } } } }"""
    )
    library = load_libraries([path])
    cell = library.cells["X"]
    assert library.voltage == 1.5 and cell.area == 2.5
    assert cell.leakage == pytest.approx(3000)  # 3 uW in nW
    assert cell.pins["A"].capacitance == pytest.approx((2.0, 2.0))  # 0.002 pF in fF
    table = cell.pins["Y"].arcs[0].tables["cell_rise"]
    assert table.slews == pytest.approx([0.01, 0.02, 0.03])  # ps in ns, first axis
    assert table.loads == pytest.approx([1000, 2000])
    assert table.values[2] == pytest.approx([0.003, 0.006])
    # 1 pF V^2 is 1000 fJ; a missing fall_power is the rise_power.
    power = cell.pins["Y"].power[0]
    assert power.rise.values[0][0] == pytest.approx(1000) and power.fall is not None


@pytest.mark.parametrize(("value", "counted"), [("3, 1", True), ("0, 0", False)])
def test_power_of_ground_pins_is_that_of_the_supply_once_more(tmp_path, value, counted):
    supply = LIBRARY.replace('related_pin : "A";\n        rise_power', 'related_pg_pin : "VDD";\n'
                             '        related_pin : "A";\n        rise_power')  # fmt: skip
    ground = f"""internal_power () {{ related_pg_pin : "VSS"; related_pin : "A";
        rise_power (d) {{ values ("{value}", "{value}"); }}
        fall_power (d) {{ values ("{value}", "{value}"); }} }}"""
    assert supply != LIBRARY
    path = tmp_path / "a.lib"
    path.write_text(supply.replace('internal_power () { related_pg_pin : "VDD"', ground + '\n      '
                                   'internal_power () { related_pg_pin : "VDD"', 1))  # fmt: skip
    plain = tiny_library(tmp_path)
    for _ in range(2):  # from the file, and from the cache
        library = load_libraries([path], tmp_path / "cache")
        assert (library.ground_power, plain.ground_power) == (counted, False)
        assert library.cells == plain.cells
    assert load_libraries([path, tmp_path / "tiny.lib"]).ground_power == counted
    assert load_libraries([tmp_path / "tiny.lib", path]).ground_power == counted


def test_kinds_and_states(tmp_path):
    cells = tiny_library(tmp_path).cells
    assert {name: cell.kind for name, cell in cells.items()} == {
        "INV": "gate", "INV4": "gate", "BUF": "gate", "NAND2": "gate", "DFF": "ff",
        "LATCH": "latch", "GATE": "clock_gate", "TIE0": "gate", "TIE1": "gate",
    }  # fmt: skip
    assert cells["DFF"].state == {"iq": "IQ", "iqn": "IQN", "next": "D", "clock": "CK"}
    assert cells["NAND2"].pins["B"].capacitance == (3.0, 2.0)
    assert cells["NAND2"].leakages == [("A & B", 8.0), ("!(A & B)", 4.0)]
    # One group for two inputs is two arcs.
    assert [arc.related for arc in cells["NAND2"].pins["Y"].arcs] == ["A", "B"]


def test_gzip_and_cache_give_the_same(tmp_path):
    plain = tiny_library(tmp_path)
    packed = tmp_path / "tiny.lib.gz"
    packed.write_bytes(gzip.compress(LIBRARY.encode()))
    cache = tmp_path / "cache"
    first = load_libraries([packed], cache)
    again = load_libraries([packed], cache)
    assert first == again == plain
    assert len(list(cache.iterdir())) == 1
    # A damaged cache is read over, not believed.
    next(cache.iterdir()).write_text("{}")
    assert load_libraries([packed], cache) == plain


def test_what_is_written_for_mapping_reads_back(tmp_path):
    library = tiny_library(tmp_path)
    write_liberty(library, ["INV", "NAND2", "DFF"], tmp_path / "small.lib")
    small = load_libraries([tmp_path / "small.lib"])
    assert sorted(small.cells) == ["DFF", "INV", "NAND2"]
    for name, cell in small.cells.items():
        assert cell.area == library.cells[name].area
        assert cell.state == library.cells[name].state
        for pin in cell.outputs:
            assert cell.pins[pin].function == library.cells[name].pins[pin].function
            assert cell.pins[pin].arcs == library.cells[name].pins[pin].arcs


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("module x; endmodule", "must be a liberty file"),
        ("library (a) { cell (b) {", "complete liberty file"),
        ("", "complete liberty file"),
        (
            LIBRARY.replace('values ("0.1, 1.1", "0.1, 1.1")', 'values ("0.1, 1.1")', 1),
            "as many values as its axes say",
        ),
    ],
)
def test_other_files_are_one_clear_error(tmp_path, text, message):
    path = tmp_path / "x.lib"
    path.write_text(text)
    with pytest.raises(HalutError, match=message) as error:
        load_libraries([path])
    assert str(path) in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(HalutError, match=r"must be readable.*nowhere\.lib"):
        load_libraries([tmp_path / "nowhere.lib"])
