"""`EngineConfig`: the sizes of an engine, and how the open ones are found from model and memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from ostro.cache import KVCache
from ostro.config import ModelConfig
from ostro.config.kv import KV_DTYPES
from ostro.errors import RequestError
from ostro.machine import available_memory

SPECULATION = ("auto", "off", "prompt-lookup", "draft-model")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """Sizes of an engine; None is found from the model and the memory (`EngineConfig.sizes`).

    `block_size` tokens make a block of K/V. `num_blocks`, or `kv_cache_bytes`, or `kv_memory_fraction` of the memory
    that is available bounds the pool; a draft model has as many blocks, and the bytes are for both. `kv_dtype` is the
    type of K and V: float32, float16, bfloat16 or int8. At most `max_num_seqs` answers are computed side by side, and
    `max_num_batched_tokens` tokens in one step. `max_model_len` bounds prompt and answer together: by default the
    model's context or what the pool holds.

    `prefix_cache_dir` is a folder where prefixes are kept for the next process (`ostro.cache.disk`), in files that take
    `prefix_cache_bytes` at most; None keeps them in memory alone.

    `speculation` makes several tokens in a step where it can, and never other tokens (`ostro.engine.speculation`):
    "auto" drafts as much as pays, by prompt lookup and with the draft model if there is one, where the backend's rows
    do not depend on each other, and else not at all; "prompt-lookup" and "draft-model" draft whenever they can, with
    that alone; "off" never. A draft has at most `max_draft_tokens`.
    """

    block_size: int = 16
    num_blocks: int | None = None
    kv_cache_bytes: int | None = None
    kv_memory_fraction: float = 0.5
    kv_dtype: str = "float32"
    max_num_seqs: int = 16
    max_num_batched_tokens: int = 512
    max_model_len: int | None = None
    enable_prefix_caching: bool = True
    prefix_cache_dir: str | Path | None = None
    prefix_cache_bytes: int = 8 << 30
    speculation: str = "auto"
    max_draft_tokens: int = 15

    def __post_init__(self) -> None:
        for name in ("block_size", "max_num_seqs", "max_num_batched_tokens", "max_draft_tokens", "prefix_cache_bytes"):
            _at_least_one(name, getattr(self, name))
        for name in ("num_blocks", "kv_cache_bytes", "max_model_len"):
            if getattr(self, name) is not None:
                _at_least_one(name, getattr(self, name))
        if self.num_blocks is not None and self.kv_cache_bytes is not None:
            raise RequestError(
                f"num_blocks ({self.num_blocks}) and kv_cache_bytes ({self.kv_cache_bytes}) both size the K/V pool: "
                "give one of them.",
                param="kv_cache_bytes",
            )
        if self.prefix_cache_dir is not None and not self.enable_prefix_caching:
            raise RequestError(
                f"prefix_cache_dir is {str(self.prefix_cache_dir)!r}, but enable_prefix_caching is false: leave one of "
                "them out.",
                param="prefix_cache_dir",
            )
        if not 0 < self.kv_memory_fraction <= 1:
            raise RequestError(
                f"kv_memory_fraction must be greater than 0 and at most 1, not {self.kv_memory_fraction!r}.",
                param="kv_memory_fraction",
            )
        if self.kv_dtype not in KV_DTYPES:
            raise RequestError(
                f"kv_dtype must be one of {', '.join(KV_DTYPES)}, not {self.kv_dtype!r}.", param="kv_dtype"
            )
        if self.speculation not in SPECULATION:
            raise RequestError(
                f"speculation must be one of {', '.join(SPECULATION)}, not {self.speculation!r}.", param="speculation"
            )

    def sizes(self, model: ModelConfig, weight_bytes: int = 0, *, draft_kv_bytes: int = 0) -> EngineSizes:
        """All sizes for a model. `weight_bytes` of mapped weights are not in memory yet but will be, so they are left
        out of what is available. `draft_kv_bytes` is what a draft model keeps for each token, in as many blocks of its
        own: bounds in bytes are for both.

        RequestError if the pool cannot hold `max_model_len`, with the numbers; or if that is beyond the model.
        """
        block_bytes = (model.kv_bytes_per_token(self.kv_dtype) + draft_kv_bytes) * self.block_size
        wished = self._max_model_len(model)
        needed = self._blocks(model, wished)  # for one sequence of that length
        num_blocks = self.num_blocks
        if num_blocks is None:
            room = self.kv_cache_bytes
            if room is None:
                room = int((available_memory() - weight_bytes) * self.kv_memory_fraction)
            # More than all sequences can ever use is of no use, even to the prefix cache of a small model.
            most = self.max_num_seqs * self._blocks(model, wished, self.max_num_batched_tokens)
            num_blocks = min(max(room, 0) // block_bytes, most)
        if num_blocks < needed:
            wished = self._shortened(model, wished, num_blocks, needed, block_bytes)
        return EngineSizes(num_blocks, wished)

    def fixed(self, model: ModelConfig, weight_bytes: int = 0, *, draft_kv_bytes: int = 0) -> EngineConfig:
        """The same with the sizes found now, so that a second pool can be made to hold the same texts."""
        sizes = self.sizes(model, weight_bytes, draft_kv_bytes=draft_kv_bytes)
        return replace(self, num_blocks=sizes.num_blocks, kv_cache_bytes=None, max_model_len=sizes.max_model_len)

    def _max_model_len(self, model: ModelConfig) -> int:
        context = model.max_position_embeddings
        if self.max_model_len is None:
            return context
        # Distances stay below the window however long the text is, so a windowed model may go beyond.
        if self.max_model_len > context and model.max_window is None:
            raise RequestError(
                f"max_model_len ({self.max_model_len}) is greater than the model's context of {context} tokens; "
                f"give {context} or less.",
                param="max_model_len",
            )
        return self.max_model_len

    def _blocks(self, model: ModelConfig, num_tokens: int, chunk: int = 1) -> int:
        return KVCache(1, self.block_size, model.max_window).max_blocks(num_tokens, chunk)

    def _shortened(self, model: ModelConfig, wished: int, num_blocks: int, needed: int, block_bytes: int) -> int:
        """What the pool holds of the context, if the user did not insist on more and it is more than nothing."""
        if self.max_model_len is None and model.max_window is None and num_blocks:
            return num_blocks * self.block_size
        raise RequestError(
            f"The K/V cache has room for {num_blocks} blocks of {self.block_size} tokens, but a text of {wished} "
            f"tokens needs {needed} ({needed * block_bytes:,} bytes). Give a smaller max_model_len, a larger "
            "kv_cache_bytes, or kv_dtype='int8'.",
            param="max_model_len",
        )


@dataclass(frozen=True, slots=True)
class EngineSizes:
    """What an `EngineConfig` comes to for one model: `num_blocks` of K/V, texts of `max_model_len`."""

    num_blocks: int
    max_model_len: int


def _at_least_one(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise RequestError(f"{name} must be a whole number of at least 1, not {value!r}.", param=name)
