import pytest

from flow import doctor
from flow.tools import find


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
