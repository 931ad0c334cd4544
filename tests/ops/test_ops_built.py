"""An install falls back to NumPy without a word to the tests, so here the kernels are asked for."""

from __future__ import annotations

from ostro.ops import get_ops, native_error


def test_the_kernels_were_built_and_are_the_default() -> None:
    assert native_error() is None, "the C++ build failed: `pip install -v .` shows why"
    assert get_ops("auto").name == "cpu"
