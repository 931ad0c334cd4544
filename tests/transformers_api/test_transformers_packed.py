"""Packed sequences are computed as if each stood alone: layout, short attention, models, gradients."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ostro.transformers import MistralConfig, MistralForCausalLM
from ostro.transformers.attention import Visibility, packed_segments, run
from ostro.transformers.packed import Packing
from ostro.transformers.short_attention import attend_short, is_short


@st.composite
def cut_rows(draw: st.DrawFn) -> torch.Tensor:
    """Positions (B, T) of rows that are cut into sequences in any way."""
    length = draw(st.integers(1, 60))
    rows = []
    for _ in range(draw(st.integers(1, 3))):
        starts = sorted({0, *draw(st.lists(st.integers(1, max(1, length - 1)), max_size=6))})
        ends = [*starts[1:], length]
        rows.append(torch.cat([torch.arange(max(0, b - a)) for a, b in zip(starts, ends, strict=True)])[:length])
    return torch.stack([row for row in rows if len(row) == length] or [torch.arange(length)])


@settings(max_examples=60)
@given(cut_rows(), st.integers(1, 3))
def test_every_token_has_a_place_and_comes_back(positions: torch.Tensor, heads: int) -> None:
    segments = (torch.diff(positions, prepend=positions[:, :1] - 1, dim=-1) != 1).cumsum(-1)
    layout = Packing.of(segments)
    x = torch.arange(positions.numel() * heads * 2.0).view(*positions.shape, heads, 2).transpose(1, 2)
    parts = layout.lay_out(x)
    assert torch.equal(layout.bring_back(parts, len(positions)), x)
    assert sum(group.num_sequences for group in layout.groups) == int((positions == 0).sum())
    assert len(layout.from_place) + len(layout.filling) == len(layout.to_place)


@settings(max_examples=40)
@given(cut_rows(), st.sampled_from([None, 1, 5]), st.integers(0, 100))
def test_packed_attention_and_its_gradients_are_those_of_a_mask(
    positions: torch.Tensor, window: int | None, seed: int
) -> None:
    torch.manual_seed(seed)
    batch, length = positions.shape
    q = torch.randn(batch, 4, length, 6, requires_grad=True)
    k, v = (torch.randn(batch, 2, length, 6, requires_grad=True) for _ in range(2))
    upstream = torch.randn(q.shape)
    results = []
    for implementation in ("sdpa", "eager"):
        visibility = Visibility(0, length, q.device, segments=packed_segments(positions))
        out = run(implementation, q, k, v, visibility, window, 0.0)
        results.append([out, *torch.autograd.grad(out, (q, k, v), upstream)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.04)])
@pytest.mark.parametrize("length", [1, 2, 33])
def test_short_attention_is_scaled_dot_product_attention(dtype: torch.dtype, tolerance: float, length: int) -> None:
    torch.manual_seed(0)
    q = torch.randn(3, 6, length, 8, dtype=dtype, requires_grad=True)
    k, v = (torch.randn(3, 2, length, 8, dtype=dtype, requires_grad=True) for _ in range(2))
    upstream = torch.randn(q.shape, dtype=dtype)
    assert is_short(q, 0.0)
    ours = attend_short(q, k, v)
    wide = [side.detach().float().requires_grad_() for side in (q, k, v)]
    repeated = [side.repeat_interleave(3, dim=1) for side in wide[1:]]
    theirs = torch.nn.functional.scaled_dot_product_attention(wide[0], *repeated, is_causal=True)
    torch.testing.assert_close(ours.float(), theirs, atol=tolerance, rtol=tolerance)
    grads = torch.autograd.grad(ours, (q, k, v), upstream)
    for one, other in zip(grads, torch.autograd.grad(theirs, wide, upstream.float()), strict=True):
        torch.testing.assert_close(one.float(), other, atol=2 * tolerance, rtol=2 * tolerance)


def test_short_attention_is_for_training_alone() -> None:
    q = torch.randn(1, 2, 8, 4, requires_grad=True)
    assert not is_short(q.detach(), 0.0)
    assert not is_short(q, 0.1)
    assert not is_short(torch.randn(1, 2, 2048, 4, requires_grad=True), 0.0)
    with torch.no_grad():
        assert not is_short(q, 0.0)


@pytest.mark.parametrize("window", [None, 7])
def test_a_model_gives_packed_sequences_what_it_gives_each_alone(window: int | None) -> None:
    torch.manual_seed(5)
    model = MistralForCausalLM(
        MistralConfig(
            vocab_size=50, hidden_size=32, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, sliding_window=window, max_position_embeddings=64,
        )
    )  # fmt: skip
    lengths = (3, 20, 1, 9)
    ids = torch.randint(0, 50, (1, sum(lengths)))
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    together = model(ids, position_ids=positions, use_cache=False).logits
    alone = torch.cat([model(part, use_cache=False).logits for part in ids.split(lengths, dim=1)], dim=1)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(model(ids, position_ids=positions).logits, alone, atol=1e-5, rtol=1e-4)
