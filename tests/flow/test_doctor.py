import pytest

from flow import doctor
from flow.tools import find
from halut import native


def _found(name):
    return next(finding for finding in doctor.survey() if finding.name == name)


def test_abc_is_listed_with_what_works_without_it(monkeypatch, capsys):
    monkeypatch.setattr(find, "find_spec", lambda _: None)
    monkeypatch.setenv("PATH", "/nowhere")
    missing = _found("abc")
    assert missing.found is None and not missing.required
    doctor.main([])
    text = " ".join(capsys.readouterr().out.split())
    assert "abc missing (optional): for proofs" in text
    assert "get it: make venv; without it: everything but proofs" in text


def test_abc_of_pyosys_is_found():
    pytest.importorskip("pyosys")
    assert _found("abc").found.startswith("of pyosys ")


def test_the_variant_of_the_kernels_that_runs_is_listed(monkeypatch):
    monkeypatch.setenv(native.VARIABLE, "off")
    assert _found("native kernels").found == "NumPy (HALUT_NATIVE=off)"
    monkeypatch.setenv(native.VARIABLE, "sse")
    assert "HALUT_NATIVE must be off" in _found("native kernels").found
    monkeypatch.delenv(native.VARIABLE)
    if native.variants():
        assert _found("native kernels").found.startswith(f"{native.variants()[-1]} (")
