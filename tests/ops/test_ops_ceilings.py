"""The machine's ceilings, for every kernel set: that they are measured and make sense, not how high they are."""

from __future__ import annotations

import pytest

from ostro.errors import BackendError

cpu = pytest.importorskip("ostro.ops.cpu")


@pytest.mark.parametrize("isa", cpu.cpu_features()["usable"])
@pytest.mark.parametrize("threads", [1, 2])
def test_every_kernel_set_has_ceilings(isa: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSTRO_ISA", isa)
    found = cpu.ceilings(threads, buffer_bytes=1 << 23, seconds=0.0)
    assert set(found) == {"dram_gb_per_s", "int8_gops", "fma_gflops"}
    assert all(0 < value < 1e6 for value in found.values())


@pytest.mark.parametrize(
    ("threads", "buffer_bytes", "seconds", "message"),
    [
        (0, 1 << 23, 0.0, "num_threads must be between"),
        (1, 1000, 0.0, "buffer_bytes must be at least"),
        (1, 1 << 23, -1.0, "seconds must be between"),
        (1, 1 << 23, float("nan"), "seconds must be between"),
    ],
)
def test_senseless_numbers_are_refused(threads: int, buffer_bytes: int, seconds: float, message: str) -> None:
    with pytest.raises(BackendError, match=message):
        cpu.ceilings(threads, buffer_bytes=buffer_bytes, seconds=seconds)


def test_an_unknown_kernel_set_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSTRO_ISA", "sse9")
    with pytest.raises(BackendError, match="sse9"):
        cpu.ceilings(1, buffer_bytes=1 << 23, seconds=0.0)
