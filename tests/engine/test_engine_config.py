"""Sizes of an engine: from memory, from limits, or refused with the numbers."""

from __future__ import annotations

from typing import Any

import pytest
from engine_models import make_core, tiny_config

from ostro.engine import EngineConfig
from ostro.engine import config as config_module
from ostro.errors import RequestError

BLOCK = 2 * 2 * 2 * 4 * 4 * 4  # K and V, layers, heads, head_dim, float32, tokens: 512 bytes


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("block_size", 0), ("num_blocks", 0), ("kv_cache_bytes", 0), ("max_num_seqs", True), ("max_model_len", 1.5),
        ("max_num_batched_tokens", -1), ("kv_memory_fraction", 0), ("kv_memory_fraction", 1.1), ("kv_dtype", "int4"),
    ],
)  # fmt: skip
def test_out_of_range_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(RequestError, match=name):
        EngineConfig(**{name: value})


def test_two_sizes_for_one_pool_are_refused() -> None:
    with pytest.raises(RequestError, match="give one"):
        EngineConfig(num_blocks=1, kv_cache_bytes=1)


def test_the_pool_is_a_part_of_what_the_weights_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config_module, "available_memory", lambda: 100 * BLOCK + 1000)
    sizes = EngineConfig(block_size=4, kv_memory_fraction=0.5).sizes(tiny_config(), weight_bytes=1000)
    assert (sizes.num_blocks, sizes.max_model_len) == (50, 96)
    monkeypatch.setattr(config_module, "available_memory", lambda: 10**12)
    sizes = EngineConfig(block_size=4, max_num_seqs=3).sizes(tiny_config())
    assert sizes.num_blocks == 3 * 24  # more is of no use


def test_a_small_pool_shortens_the_context_unless_it_was_asked_for() -> None:
    sizes = EngineConfig(block_size=4, kv_cache_bytes=10 * BLOCK).sizes(tiny_config())
    assert (sizes.num_blocks, sizes.max_model_len) == (10, 40)
    with pytest.raises(RequestError, match=r"10 blocks.*96 tokens needs 24") as caught:
        EngineConfig(block_size=4, kv_cache_bytes=10 * BLOCK, max_model_len=96).sizes(tiny_config())
    assert caught.value.param == "max_model_len"
    with pytest.raises(RequestError, match="0 blocks"):
        EngineConfig(block_size=4, kv_cache_bytes=BLOCK - 1).sizes(tiny_config())


def test_a_windowed_model_needs_its_window_only() -> None:
    windowed = tiny_config(8)
    sizes = EngineConfig(block_size=4, num_blocks=4, max_model_len=10**6).sizes(windowed)
    assert sizes.max_model_len == 10**6
    with pytest.raises(RequestError, match=r"3 blocks.*needs 4"):
        EngineConfig(block_size=4, num_blocks=3).sizes(windowed)


def test_beyond_the_models_context() -> None:
    with pytest.raises(RequestError, match="96"):
        EngineConfig(num_blocks=100, max_model_len=97).sizes(tiny_config())


@pytest.mark.parametrize(("kv_dtype", "block_bytes"), [("float16", BLOCK // 2), ("int8", BLOCK // 4 + BLOCK // 8)])
def test_the_pool_is_made_as_sized(kv_dtype: str, block_bytes: int) -> None:
    core = make_core(kv_dtype=kv_dtype, num_blocks=30)
    assert core._runner.pool.nbytes == 30 * block_bytes
    assert core._runner.pool.num_blocks == core.cache.pool.num_blocks == 30
    sizes = EngineConfig(block_size=4, kv_cache_bytes=7 * block_bytes, kv_dtype=kv_dtype).sizes(tiny_config())
    assert sizes.num_blocks == 7
