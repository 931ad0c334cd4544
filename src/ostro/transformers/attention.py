"""Attention of dense batches (B, T): who sees whom, and the three implementations that a model can be asked for.

- "sdpa" (the default): PyTorch's `scaled_dot_product_attention`, which chooses its kernel; for short sequences that are
  trained on a CPU, plain matrix products (see `short_attention`).
- "eager": matrix products and a softmax in float32; the only one that can return attention weights.
- "flash_attention_2": PyTorch's own kernels of the FlashAttention algorithm; the `flash-attn` package is not needed. On
  the CPU that is its flash kernel in every case. On CUDA half precision is demanded; the flash kernel runs wherever no
  mask is needed, and its memory-efficient kernel, the same tiled algorithm, where one is: for padded batches, a prompt
  longer than the window, or several tokens after a cache. What neither can run is an error: never a silent fallback.

Memory is bounded: a long prompt that needs a mask runs in chunks of rows, and a chunk's keys are cut to its window.
Packed sequences are cut from their rows (see `packed`), so that no mask has to hide them from one another.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from ostro.errors import BackendError, RequestError
from ostro.ops.torch import attend, causal_mask
from ostro.transformers.packed import Packing
from ostro.transformers.short_attention import attend_short, is_short

IMPLEMENTATIONS = ("sdpa", "eager", "flash_attention_2")
_ROWS_AT_ONCE = 1024


def check_implementation(name: str) -> str:
    """`name`, if there is an attention implementation of that name."""
    if name not in IMPLEMENTATIONS:
        raise RequestError(
            f"attn_implementation {name!r} is not known; choose one of {', '.join(IMPLEMENTATIONS)}.",
            param="attn_implementation",
        )
    return name


@dataclass(slots=True)
class Visibility:
    """Which keys the queries of one forward pass see.

    The T queries follow `past` cached positions. `key_mask` (B, past + T) is False at padding; `segments` (B, T)
    numbers packed sequences. None of both: nothing is hidden but by causality and windows.
    """

    past: int
    num_queries: int
    device: torch.device
    key_mask: torch.Tensor | None = None
    segments: torch.Tensor | None = None
    _masks: dict[tuple[int | None, int, int, int], torch.Tensor] = field(default_factory=dict)
    _packing: tuple[Packing, list[Visibility]] | None = None

    def packing(self) -> tuple[Packing, list[Visibility]]:
        """How the packed sequences are laid out for attention, and the visibility within each of its groups."""
        if self._packing is None:
            assert self.segments is not None
            layout = Packing.of(self.segments)
            inner = [Visibility(0, group.length, self.device) for group in layout.groups]
            self._packing = layout, inner
        return self._packing

    @property
    def total(self) -> int:
        """Positions up to and including the last query."""
        return self.past + self.num_queries

    def is_plain(self) -> bool:
        """Whether only causality and windows hide keys."""
        return self.key_mask is None and self.segments is None

    def mask(self, window: int | None, start: int, end: int, first_key: int) -> torch.Tensor:
        """(B or 1, 1, end - start, keys) for queries start .. end-1 of this pass and keys first_key .. past + end - 1.

        Every query sees itself, padding included: a row that sees nothing would be NaN.
        """
        key = (window, start, end, first_key)
        if key not in self._masks:
            if len(self._masks) > 1 and end - start < self.num_queries:
                self._masks.clear()  # chunks of a long prompt: keeping them all is what chunks are there to avoid
            self._masks[key] = self._build(*key)
        return self._masks[key]

    def _build(self, window: int | None, start: int, end: int, first_key: int) -> torch.Tensor:
        keys = slice(first_key, self.past + end)
        seen = causal_mask(self.past + start, self.past + end, keys.start, keys.stop, window, self.device)[None]
        if self.key_mask is not None:
            seen = seen & self.key_mask[:, None, keys]
        if self.segments is not None:
            seen = seen & (self.segments[:, start:end, None] == self.segments[:, None, keys])
        itself = causal_mask(self.past + start, self.past + end, keys.start, keys.stop, 1, self.device)
        return (seen | itself)[:, None]


def packed_segments(position_ids: torch.Tensor) -> torch.Tensor | None:
    """Numbers of the sequences packed in each row (B, T), told by positions that do not go on; None if each is one.

    This is how transformers reads `position_ids` that are given without a mask and without a cache.
    """
    breaks = torch.diff(position_ids, prepend=position_ids[:, :1] - 1, dim=-1) != 1
    return breaks.cumsum(-1) if bool(breaks.any()) else None


def run(
    implementation: str,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    visibility: Visibility,
    window: int | None,
    dropout: float,
) -> torch.Tensor:
    """q (B, H, T, d) over k, v (B, G, S, d), the last S of all positions: (B, H, T, d)."""
    first_kept = visibility.total - k.shape[2]
    if implementation == "eager":
        mask = visibility.mask(window, 0, visibility.num_queries, first_kept)
        return weigh(eager_weights(q, k, mask), v, dropout)
    if visibility.segments is not None and visibility.key_mask is None and visibility.total == k.shape[2]:
        layout, inner = visibility.packing()
        cut = zip(*(layout.lay_out(side) for side in (q, k, v)), inner, strict=True)
        parts = [run(implementation, a, b, c, within, window, dropout) for a, b, c, within in cut]
        return layout.bring_back(parts, len(q))
    with _kernels(implementation, q):
        plain = visibility.is_plain() and visibility.past == 0
        if plain and visibility.num_queries > 1 and (window is None or visibility.num_queries <= window):
            if implementation == "sdpa" and is_short(q, dropout):
                return attend_short(q, k, v)
            return attend(q, k, v, mask=None, causal=True, dropout=dropout)
        if visibility.is_plain() and visibility.num_queries == 1:
            k, v = (side if window is None else side[:, :, -window:] for side in (k, v))
            return attend(q, k, v, mask=None, causal=False, dropout=dropout)
        chunks = [
            _masked_chunk(q, k, v, visibility, window, dropout, start)
            for start in range(0, visibility.num_queries, _ROWS_AT_ONCE)
        ]
        return chunks[0] if len(chunks) == 1 else torch.cat(chunks, dim=2)


def _masked_chunk(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    visibility: Visibility,
    window: int | None,
    dropout: float,
    start: int,
) -> torch.Tensor:
    end = min(start + _ROWS_AT_ONCE, visibility.num_queries)
    first_kept = visibility.total - k.shape[2]
    oldest = first_kept if window is None else max(first_kept, visibility.past + start - window + 1)
    keys = slice(oldest - first_kept, visibility.past + end - first_kept)
    mask = visibility.mask(window, start, end, oldest)
    return attend(q[:, :, start:end], k[:, :, keys], v[:, :, keys], mask=mask, causal=False, dropout=dropout)


def eager_weights(q: torch.Tensor, k: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Softmax weights (B, H, T, S), computed in float32 at least."""
    k = k.repeat_interleave(q.shape[1] // k.shape[1], dim=1)
    scores = (q @ k.transpose(2, 3)) * q.shape[-1] ** -0.5
    scores = scores.to(torch.promote_types(q.dtype, torch.float32)).masked_fill(~mask, float("-inf"))
    weights: torch.Tensor = scores.softmax(dim=-1).to(q.dtype)
    return weights


def weigh(weights: torch.Tensor, v: torch.Tensor, dropout: float) -> torch.Tensor:
    """Weights (B, H, T, S) times v (B, G, S, d): (B, H, T, d)."""
    v = v.repeat_interleave(weights.shape[1] // v.shape[1], dim=1)
    return torch.nn.functional.dropout(weights, dropout, training=dropout > 0) @ v


@contextmanager
def _kernels(implementation: str, q: torch.Tensor) -> Iterator[None]:
    """Pin FlashAttention's kernels where the model was asked for them."""
    if implementation != "flash_attention_2":
        yield
        return
    from torch.nn.attention import SDPBackend, sdpa_kernel

    allowed = [SDPBackend.FLASH_ATTENTION]
    if q.is_cuda:
        if q.dtype not in (torch.float16, torch.bfloat16):
            raise BackendError(
                f'attn_implementation="flash_attention_2" needs float16 or bfloat16 on CUDA, not {q.dtype}: load the '
                'model with dtype=torch.bfloat16, or take attn_implementation="sdpa".'
            )
        allowed.append(SDPBackend.EFFICIENT_ATTENTION)
    try:
        with sdpa_kernel(allowed):
            yield
    except RuntimeError as error:
        if "No available kernel" not in str(error) and "No viable backend" not in str(error):
            raise
        raise BackendError(
            f"PyTorch's FlashAttention kernels cannot run this: device {q.device}, {q.dtype}, head_dim {q.shape[-1]}. "
            'Take attn_implementation="sdpa".'
        ) from error
