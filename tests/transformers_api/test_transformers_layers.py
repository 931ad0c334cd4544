"""A layer is called as a module, so that hooks on it (a user's, or those of FSDP) take part."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ostro.transformers import MistralConfig, MistralForCausalLM


@pytest.mark.parametrize("checkpointed", [False, True])
def test_hooks_see_a_layer(checkpointed: bool) -> None:
    config = MistralConfig(
        vocab_size=50, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=64,
    )  # fmt: skip
    model = MistralForCausalLM(config).train()
    if checkpointed:
        model.gradient_checkpointing_enable()
    seen: list[torch.Tensor] = []

    def double(_module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        seen.append(output)
        return output * 2

    ids = torch.arange(3, 9)[None]
    plain = model.model(ids, use_cache=False).last_hidden_state
    model.model.layers[1].register_forward_hook(double)
    hooked = model.model(ids, use_cache=False, output_hidden_states=True)
    assert [tuple(x.shape) for x in seen] == [(6, 16)]
    assert torch.allclose(hooked.last_hidden_state, plain, rtol=0.01)  # the last norm takes the factor away again
    model.model.layers[0].register_forward_hook(double)
    changed = model.model(ids, use_cache=False).last_hidden_state
    assert not torch.allclose(changed, plain, atol=1e-3)
    changed.sum().backward()
    assert all(parameter.grad is not None for parameter in model.model.layers.parameters())
