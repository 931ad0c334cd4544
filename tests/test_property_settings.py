"""Property tests never fail because a machine is busy: tests/conftest.py sets that once."""

from __future__ import annotations

from hypothesis import HealthCheck, settings


def test_no_example_has_a_deadline() -> None:
    assert settings().deadline is None
    assert HealthCheck.too_slow in settings().suppress_health_check
