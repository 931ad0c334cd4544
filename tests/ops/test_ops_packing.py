"""The C++ packing gives the bytes of the NumPy definition, for any shape, type, kernel set and number of threads."""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from op_data import ISAS, same_bits
from packed_data import CODEBOOK, packed
from quantize_data import blocks_of

from ostro import env
from ostro.checkpoint import packing as definition
from ostro.checkpoint.packed import INT4, NF4, PackedTensor
from ostro.errors import BackendError, CheckpointError
from ostro.ops import packing
from ostro.ops.cpu import _native, pack_native, repack_native

FORMS = [("P8", INT4), ("P4", INT4), ("P4", NF4), ("P4G", INT4), ("P4G", CODEBOOK)]
SEEDS = st.integers(0, 2**32 - 1)


def same(ours: PackedTensor | None, theirs: PackedTensor | None) -> bool:
    assert ours is not None
    assert theirs is not None
    named = (ours.kind, ours.shape, ours.codebook) == (theirs.kind, theirs.shape, theirs.codebook)
    return named and same_bits(ours.codes, theirs.codes) and same_bits(ours.scales, theirs.scales)


def awkward(rng: np.random.Generator, rows: int, cols: int, dtype: str) -> npt.NDArray[Any]:
    """Weights of all sizes from subnormal ones to 6e4, many of them zeros of either sign, or halfway between codes."""
    sizes = 10.0 ** rng.choice([-45, -39, -33, -10, -8, -7, -5, -2, -1, 0, 1, 3], (rows, -(-cols // 32)))
    weights = rng.standard_normal((rows, cols)) * sizes.repeat(32, axis=1)[:, :cols]
    weights[rng.random((rows, cols)) < 0.2] *= 0.0
    whole = rng.random(rows) < 0.3
    weights[whole] = rng.integers(-16, 17, (int(whole.sum()), cols)) / 2
    kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
    return np.clip(weights, -60000, 60000).astype(kind)


@settings(max_examples=60)
@given(
    isa=st.sampled_from(ISAS),
    form=st.sampled_from(FORMS),
    dtype=st.sampled_from(["float32", "float16", "bfloat16"]),
    rows=st.integers(1, 40),
    cols=st.integers(1, 100) | st.sampled_from([256, 512, 513, 544, 1100]),
    threads=st.integers(1, 3),
    seed=SEEDS,
)
def test_floats_are_rounded_as_defined(
    isa: str, form: tuple[str, tuple[int, ...]], dtype: str, rows: int, cols: int, threads: int, seed: int
) -> None:
    weights = awkward(np.random.default_rng(seed), rows, cols, dtype)
    kind, codebook = form
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(env, "isa", lambda: isa)
        ours = pack_native(weights, kind, codebook, threads)
    assert same(ours, definition.quantize(weights, kind, codebook))


@settings(max_examples=60)
@given(
    kind=st.sampled_from(sorted(definition.REPACKED)),
    rows=st.integers(1, 40),
    blocks=st.integers(1, 3),
    threads=st.integers(1, 3),
    seed=SEEDS,
)
def test_blocks_are_repacked_as_defined(kind: str, rows: int, blocks: int, threads: int, seed: int) -> None:
    tensor = blocks_of(kind, rows, 256 * blocks, seed)
    assert same(repack_native(tensor, threads), definition.repack(tensor))


@pytest.mark.parametrize("kind", ["Q4_0", "Q5_1", "Q8_0", "Q6_K"])
def test_blocks_may_lie_anywhere_in_a_mapped_file(kind: str, tmp_path: Path) -> None:
    """At an odd address, ending where a read-only map ends."""
    tensor = blocks_of(kind, 35, 256)
    padding = 4096 - tensor.nbytes % 4096
    (tmp_path / "w").write_bytes(b"x" * padding + tensor.blocks.tobytes())
    mapped: Any = np.memmap(tmp_path / "w", dtype=np.uint8, mode="r")[padding:].reshape(tensor.blocks.shape)
    assert not mapped.flags.writeable
    assert same(repack_native(replace(tensor, blocks=mapped)), definition.repack(tensor))
    assert same(
        repack_native(tensor.rows(np.arange(34, -1, -1))), definition.repack(tensor.rows(slice(None, None, -1)))
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_floats_may_lie_anywhere_in_a_mapped_file(dtype: Any, tmp_path: Path) -> None:
    weights = np.random.default_rng(1).standard_normal((35, 77)).astype(dtype)
    padding = 4097 - weights.nbytes % 4096
    (tmp_path / "w").write_bytes(b"x" * padding + weights.tobytes())
    mapped: Any = np.memmap(tmp_path / "w", dtype=np.uint8, mode="r")[padding:].view(dtype).reshape(weights.shape)
    ours = packing.pack(mapped, "P8")
    del mapped
    gc.collect()
    assert same(ours, definition.quantize(weights, "P8"))
    assert same(packing.pack(weights.T), definition.quantize(weights.T))


def test_minus_128_has_no_exact_form() -> None:
    tensor = blocks_of("Q8_0", 40, 64)
    blocks = tensor.blocks.copy()
    for row, byte in ((0, 2), (39, 67), (17, 40)):
        blocks[row, byte], before = 128, blocks[row, byte]
        assert packing.repack(replace(tensor, blocks=blocks)) is None
        blocks[row, byte] = before
    assert same(packing.repack(replace(tensor, blocks=blocks)), definition.repack(tensor))
    assert packing.repack(blocks_of("Q2_K", 2, 256)) is None


@pytest.mark.parametrize("bad", [np.nan, -np.inf, 65520.0])
def test_weights_that_are_none_are_refused_alike(bad: float) -> None:
    weights = np.ones((100, 600), np.float32)
    weights[97, 3] = weights[41, 599] = weights[44, 0] = bad
    messages = []
    for quantize in (pack_native, definition.quantize):
        with pytest.raises(CheckpointError, match="row 41, column 599 is") as caught:
            quantize(weights, "P4", INT4)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_packed_weights_are_widened_and_rounded_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "_AT_ONCE", 1)  # a panel at a time
    for tensor in (blocks_of("Q6_K", 53, 512), packed(np.random.default_rng(2), "P4M", 53, 300)):
        for kind, codebook in FORMS:
            assert same(packing.pack(tensor, kind, codebook), definition.quantize(tensor.dequantize(), kind, codebook))


def test_without_kernels_numpy_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    weights, blocks = np.random.default_rng(3).standard_normal((20, 70), np.float32), blocks_of("Q4_K", 20, 256)
    with_kernels = packing.pack(weights, "P4G", NF4), packing.repack(blocks)
    monkeypatch.setattr(packing, "native_error", lambda: "there are none")
    monkeypatch.setattr("ostro.ops.cpu.pack_native", None)
    monkeypatch.setattr("ostro.ops.cpu.repack_native", None)
    assert same(packing.pack(weights, "P4G", NF4), with_kernels[0])
    assert same(packing.repack(blocks), with_kernels[1])


def test_what_does_not_fit_is_refused() -> None:
    data, codes, scales = np.zeros(4 * 32 * 4, np.uint8), np.zeros(256, np.uint8), np.zeros(32, np.uint8)
    book = list(INT4)
    assert _native.quantize("F32", 4, 32, data, "P4", book, codes, scales, "", 1) == -1
    for change, match in (
        ({0: "Q8_0", 3: np.zeros(136, np.uint8)}, "Floats can be quantized, not Q8_0"),
        ({3: data[:-1].copy()}, "512 bytes, not 511"),
        ({4: "P4K"}, "P4, P4G and P8, not to P4K"),
        ({4: "P8"}, "512 bytes of codes"),
        ({5: book[:15]}, "16 values"),
        ({6: codes[:-1].copy()}, "256 bytes of codes and 32 of scales, not 255"),
        ({8: "sse9"}, "sse9"),
    ):
        arguments: list[Any] = ["F32", 4, 32, data, "P4", book, codes, scales, "", 1]
        for place, value in change.items():  # type: ignore[attr-defined]
            arguments[place] = value
        with pytest.raises(BackendError, match=match):
            _native.quantize(*arguments)
    with pytest.raises(BackendError, match="No packed layout holds the values of Q2_K"):
        _native.repack("Q2_K", 1, 256, np.zeros(84, np.uint8), codes, scales, 1)
    with pytest.raises(BackendError, match="of scales, not"):
        _native.repack("Q4_0", 1, 32, np.zeros(18, np.uint8), codes, scales[:-1].copy(), 1)
    codes.setflags(write=False)
    with pytest.raises(TypeError):
        _native.repack("Q4_0", 1, 32, np.zeros(18, np.uint8), codes, scales, 1)
