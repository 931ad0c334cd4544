"""Tiny random models for the engine's tests, and a backend whose rows cannot influence each other."""

from __future__ import annotations

from typing import Any

import numpy as np

from ostro.config import ModelConfig
from ostro.engine import EngineConfig, EngineCore, RequestOutput, SamplingParams
from ostro.models.llama import LayerWeights, LlamaWeights, MoeWeights
from ostro.ops.base import ArrayKVPool
from ostro.ops.batch import ForwardBatch
from ostro.ops.reference import ReferenceOps, attend

VOCAB = 61
EOS = 2
GREEDY = SamplingParams(temperature=0, max_tokens=16, ignore_eos=True)


def tiny_config(window: int | None = None, vocab_size: int = VOCAB, **changes: Any) -> ModelConfig:
    numbers: dict[str, Any] = {
        "family": "mistral", "vocab_size": vocab_size, "hidden_size": 16, "intermediate_size": 24,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4,
        "max_position_embeddings": 96, "rms_norm_eps": 1e-5, "rope_theta": 1e4, "rope_scaling": None,
        "sliding_windows": (window, window), "tie_word_embeddings": False, "num_local_experts": 0,
        "num_experts_per_tok": 0, "bos_token_id": 1, "eos_token_ids": (EOS,), "torch_dtype": "float32",
    }  # fmt: skip
    return ModelConfig(**{**numbers, **changes})


def tiny_weights(config: ModelConfig, ops: Any = None, dtype: Any = np.float32) -> LlamaWeights:
    """Random weights, always the same ones, in the form of `ops` (default: plain arrays)."""
    rng = np.random.default_rng(0)
    weight = ops.weight if ops else np.asarray

    def matrix(rows: int, columns: int) -> Any:
        return weight((rng.standard_normal((rows, columns)) * 1.6 / columns**0.5).astype(np.float32).astype(dtype))

    def ones(size: int) -> Any:
        return weight(np.ones(size, np.float32))

    def mlp() -> Any:
        return matrix(inner, hidden), matrix(inner, hidden), matrix(hidden, inner)

    hidden, d, inner = config.hidden_size, config.head_dim, config.intermediate_size
    heads, groups, experts = config.num_attention_heads, config.num_key_value_heads, config.num_local_experts
    layers = tuple(
        LayerWeights(
            input_layernorm=ones(hidden),
            q_proj=matrix(heads * d, hidden),
            k_proj=matrix(groups * d, hidden),
            v_proj=matrix(groups * d, hidden),
            o_proj=matrix(hidden, heads * d),
            post_attention_layernorm=ones(hidden),
            mlp=MoeWeights(matrix(experts, hidden), tuple(mlp() for _ in range(experts))) if experts else mlp(),
        )
        for _ in range(config.num_hidden_layers)
    )
    return LlamaWeights(matrix(config.vocab_size, hidden), layers, ones(hidden), matrix(config.vocab_size, hidden))


class RowwiseOps(ReferenceOps):
    """The reference with every row computed on its own, so that equal rows have equal bits whatever the batch.

    Slots that a row must not see are poisoned with NaN by `kv_pool`, and every read is checked against the table.
    """

    name = "rowwise"

    def linear(self, x: np.ndarray, weight: Any) -> np.ndarray:
        out = np.empty((len(x), len(weight)), np.float32)
        for row in range(len(x)):
            out[row] = weight @ np.ascontiguousarray(x[row])
        return out

    def kv_pool(self, *args: Any) -> ArrayKVPool:
        pool = super().kv_pool(*args)
        pool.keys[:] = np.nan
        pool.values[:] = np.nan
        return pool

    def attention(
        self, q: Any, k: Any, v: Any, pool: ArrayKVPool, layer: int, batch: ForwardBatch, window: int | None
    ) -> np.ndarray:
        groups, d = pool.keys.shape[3:]
        size = pool.block_size
        blocks, offsets = np.divmod(batch.slots, size)
        pool.keys[layer, blocks, offsets] = k.reshape(len(k), groups, d)
        pool.values[layer, blocks, offsets] = v.reshape(len(v), groups, d)
        out = np.empty_like(q)
        for s in range(len(batch.row_starts) - 1):
            for row in range(batch.row_starts[s], batch.row_starts[s + 1]):
                position = int(batch.positions[row])
                first = 0 if window is None else max(0, position - window + 1)
                seen = np.arange(first, position + 1)
                logical = seen // size - batch.table_starts[s]
                assert logical.min() >= 0, "a block was given back too early"
                table = batch.block_tables[s][logical]
                assert table.min() >= 0
                keys = pool.keys[layer, table, seen % size].astype(np.float32)
                values = pool.values[layer, table, seen % size].astype(np.float32)
                assert np.isfinite(keys).all(), "a slot is read that nobody wrote"
                out[row] = attend(q[row : row + 1], keys, values, batch.positions[row : row + 1], first, window)[0]
        return out


def make_core(
    config: ModelConfig | None = None,
    *,
    tokenizer: Any = None,
    ops: Any = None,
    dtype: Any = np.float32,
    **sizes: Any,
) -> EngineCore:
    """An engine on tiny weights; `sizes` are those of `EngineConfig`."""
    config = config or tiny_config()
    ops = ops or RowwiseOps()
    engine = EngineConfig(**{"block_size": 4, "num_blocks": 64, **sizes})
    return EngineCore(ops, config, tiny_weights(config, ops, dtype), tokenizer=tokenizer, engine_config=engine)


def run_all(core: EngineCore) -> dict[str, RequestOutput]:
    """Step to the end; the last output of every request."""
    last: dict[str, RequestOutput] = {}
    while core.has_unfinished:
        last |= {output.request_id: output for output in core.step()}
    return last


def generate(core: EngineCore, prompt: list[int], params: SamplingParams, **options: Any) -> RequestOutput:
    """One request, alone."""
    core.add_request("only", prompt, params, **options)
    return run_all(core)["only"]


def prompts(count: int, low: int = 1, high: int = 40, seed: int = 0) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(3, VOCAB, size=n).tolist() for n in rng.integers(low, high, size=count)]


def alone(prompt: list[int], params: SamplingParams, window: int | None = None) -> Any:
    """The answer of an engine that has nothing else to do."""
    return generate(make_core(tiny_config(window), enable_prefix_caching=False), prompt, params).outputs[0]


def same(left: Any, right: Any) -> bool:
    """Equal tokens, and equal log-probabilities to the last bit."""
    return (left.token_ids, left.logprobs) == (right.token_ids, right.logprobs)


class WordTokenizer:
    """A tokenizer for tests: id i stands for `pieces[i]`; ids 0 to 2 are control tokens."""

    kind = "bpe"
    version = None
    source = "test"
    bos_id = 1
    eos_id = EOS
    chat_template = None
    dummy_prefix = False

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = [b"", b"", b"", *pieces]
        self.vocab_size = len(self.pieces)
        self.control_tokens = {"<unk>": 0, "<s>": 1, "</s>": 2}

    def control_id(self, name: str) -> int:
        return self.control_tokens[name]

    def is_control(self, token_id: int) -> bool:
        return token_id < 3

    def token_bytes(self, token_id: int) -> bytes:
        return self.pieces[token_id]

    def piece(self, token_id: int) -> str:
        return ("<unk>", "<s>", "</s>")[token_id] if token_id < 3 else self.pieces[token_id].decode("utf-8", "replace")
