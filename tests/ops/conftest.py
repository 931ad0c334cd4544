"""Fixtures of the tests of ops."""

from __future__ import annotations

import pytest
from op_data import ISAS


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each kernel set that runs here, forced for the test."""
    monkeypatch.setenv("OSTRO_ISA", request.param)
    return str(request.param)
