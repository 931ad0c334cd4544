"""What is the torch backend's own: devices, types, modules as weights, autograd (arithmetic: test_ops_parity)."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import torch
from paged_batches import paged_batch, scattered_tables

from ostro.checkpoint.gguf_blocks import BLOCKS
from ostro.checkpoint.tensors import QuantizedTensor
from ostro.errors import BackendError
from ostro.ops import get_ops
from ostro.ops.torch import TorchOps, find_device, torch_dtype


def test_devices() -> None:
    assert find_device("cpu").type == find_device(torch.device("cpu")).type == "cpu"
    assert find_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(BackendError, match="no device 'tpu9x'"):
        find_device("tpu9x")
    with pytest.raises(BackendError, match='Use "cpu"'):
        find_device(f"cuda:{torch.cuda.device_count()}")
    with pytest.raises(BackendError, match='Use "cpu"'):
        get_ops("torch", device=torch.cuda.device_count())


def test_dtypes() -> None:
    assert torch_dtype("bfloat16") is torch_dtype("torch.bfloat16") is torch_dtype(torch.bfloat16) is torch.bfloat16
    for wrong in ("int8", "floatx", torch.int64):
        with pytest.raises(BackendError, match="float32, float16, bfloat16"):
            torch_dtype(wrong)


@pytest.mark.parametrize("stored", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_weight_of_every_type(stored: type, dtype: str) -> None:
    array = np.random.default_rng(0).standard_normal((5, 7)).astype(stored)
    array.setflags(write=False)
    weight = TorchOps("cpu", dtype).weight(array)
    assert weight.dtype == torch_dtype(dtype)
    assert torch.equal(weight, torch.tensor(array.astype(np.float32)).to(weight.dtype))


def test_a_weight_of_the_right_type_is_not_copied() -> None:
    for array in (np.ones((3, 4), np.float32), np.ones((3, 4), ml_dtypes.bfloat16)):
        array.setflags(write=False)
        weight = TorchOps("cpu", array.dtype.name).weight(array)
        assert weight.data_ptr() == array.ctypes.data


def test_a_packed_matrix_longer_than_what_is_unpacked_together() -> None:
    block = BLOCKS["Q8_0"]
    blocks = np.random.default_rng(0).integers(0, 100, (2500, 2 * block.block_bytes), dtype=np.uint8)
    blocks[:, 1] = blocks[:, block.block_bytes + 1] = 0x3C  # scales near one
    tensor = QuantizedTensor("Q8_0", (2500, 64), blocks, block.decode)
    assert torch.equal(TorchOps("cpu").weight(tensor), torch.from_numpy(tensor.dequantize()))


def test_modules_act_as_weights() -> None:
    ops = TorchOps("cpu")
    linear, table = torch.nn.Linear(4, 3, bias=False), torch.nn.Embedding(5, 4)
    x, ids = torch.randn(2, 4), np.array([4, 0], dtype=np.int32)
    assert torch.equal(ops.linear(x, linear), ops.linear(x, linear.weight))
    assert torch.equal(ops.embedding(table, ids), ops.embedding(table.weight, ids))
    seen: list[tuple[int, ...]] = []
    linear.register_forward_hook(lambda _module, _inputs, output: seen.append(tuple(output.shape)))
    ops.linear(x, linear)
    assert seen == [(2, 3)]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_kept_and_rounded_once(dtype: str) -> None:
    ops, exact = TorchOps("cpu", dtype), TorchOps("cpu")
    x = torch.randn(6, 16).to(ops.dtype)
    weight = torch.randn(16).to(ops.dtype)
    inv_freq = np.array([1.0, 0.1, 0.01, 0.001], dtype=np.float32)
    table = ops.rope_table(np.arange(6, dtype=np.int32) * 1000, inv_freq)
    for half, full in (
        (ops.rms_norm(x, weight, 1e-5), exact.rms_norm(x.float(), weight.float(), 1e-5)),
        (ops.rotary(x, table, 2), exact.rotary(x.float(), table, 2)),
    ):
        assert half.dtype == ops.dtype
        assert torch.equal(half, full.to(ops.dtype))


def test_gradients_of_every_op_are_right() -> None:
    ops = TorchOps("cpu", torch.float64)
    torch.manual_seed(0)
    x, weight, matrix, router = (
        torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in ((5, 8), (8,), (6, 8), (4, 8))
    )
    gate, up = (torch.randn(6, 8, dtype=torch.float64, requires_grad=True) for _ in range(2))
    down = torch.randn(8, 6, dtype=torch.float64, requires_grad=True)
    table = ops.rope_table(np.arange(5, dtype=np.int32), np.array([1.0, 0.1], dtype=np.float32))
    check = torch.autograd.gradcheck
    assert check(lambda a, w: ops.rms_norm(a, w, 1e-5), (x, weight))
    assert check(ops.linear, (x, matrix))
    assert check(lambda a: ops.rotary(a, table, 2), (x,))
    assert check(ops.swiglu, (x, x))
    assert check(lambda a, r, g, u, d: ops.moe(a, r, [(g, u, d)] * 4, 2), (x, router, gate, up, down))


def test_ties_go_to_the_lower_expert() -> None:
    ops = TorchOps("cpu")
    one, two, three = ((torch.ones(2, 3), torch.ones(2, 3), torch.full((3, 2), float(i))) for i in (1, 2, 3))
    x = torch.rand(4, 3)
    chosen = ops.moe(x, torch.zeros(3, 3), [one, two, three], 1)
    assert torch.equal(chosen, ops.moe(x, torch.zeros(1, 3), [one], 1))


@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_what_lies_behind_the_end_of_a_sequence_is_not_seen(dtype: str, window: int | None) -> None:
    ops = TorchOps("cpu")
    rng = np.random.default_rng(1)
    spans = [(0, 3), (6, 7), (2, 9)]
    tables, num_blocks = scattered_tables([3, 7, 9], 4, rng)
    batch = paged_batch(spans, tables, 4, window)
    rows = int(batch.row_starts[-1])
    q, k, v = (torch.from_numpy(rng.standard_normal((rows, heads * 8), dtype=np.float32)) for heads in (4, 2, 2))
    outs = []
    for rubbish in (0.0, float("nan")):
        pool = ops.kv_pool(1, num_blocks, 4, 2, 8, dtype)
        used = torch.zeros(num_blocks, 4, dtype=torch.bool)
        for table, (_, end) in zip(tables, spans, strict=True):
            for position in range(end):
                used[table[position // 4], position % 4] = True
        pool.keys[0][~used] = pool.values[0][~used] = rubbish
        outs.append(ops.attention(q, k, v, pool, 0, batch, window))
    assert torch.equal(outs[0], outs[1])
    assert outs[0].isfinite().all()
    assert pool.nbytes == 2 * num_blocks * 4 * 2 * 8 * (4 if dtype == "float32" else 2)
