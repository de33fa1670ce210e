import pytest


@pytest.fixture
def judged_by_one_share_of_the_rows(monkeypatch):
    """As with many rows: cross-validation takes long, and has tests of its own."""
    monkeypatch.setattr("halut.matmul.FEW_ROWS", 0)
