"""One forward pass of a dense batch: its arguments checked, and the functions that `models.llama.decode` calls."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.checkpoint import checkpoint

from ostro.errors import RequestError
from ostro.transformers import attention
from ostro.transformers.cache_utils import DynamicCache, Past
from ostro.transformers.outputs import BaseModelOutputWithPast

if TYPE_CHECKING:
    from ostro.transformers.modeling import DecoderModel


@dataclass(slots=True)
class Pass:
    """State of one call: x (B, T, D), positions (B, T), and what is collected on the way."""

    model: DecoderModel
    x: torch.Tensor
    positions: torch.Tensor
    visibility: attention.Visibility
    cache: DynamicCache | None
    checkpointed: bool
    hidden_states: list[torch.Tensor] | None
    attentions: list[torch.Tensor] | None = field(default=None)

    @classmethod
    def prepare(
        cls,
        model: DecoderModel,
        input_ids: torch.Tensor | None,
        attention_mask: torch.Tensor | None,
        position_ids: torch.Tensor | None,
        past_key_values: Past,
        inputs_embeds: torch.Tensor | None,
        use_cache: bool | None,
        output_attentions: bool | None,
        output_hidden_states: bool | None,
    ) -> Pass:
        """Check the arguments of `DecoderModel.forward` against each other and fill in what was left out."""
        config = model.config
        x = _embeddings(model, input_ids, inputs_embeds)
        checkpointed = model.gradient_checkpointing and model.training and torch.is_grad_enabled()
        cache = _cache(model, past_key_values, config.use_cache if use_cache is None else use_cache, checkpointed)
        past = cache.get_seq_length() if cache is not None else 0
        if attention_mask is not None:
            _check_mask(attention_mask, x, past)
        visibility = attention.Visibility(past, x.shape[1], x.device)
        if attention_mask is not None and not bool(attention_mask.all()):
            visibility.key_mask = attention_mask.to(x.device, torch.bool)
        positions = _positions(x, visibility, position_ids)
        if position_ids is not None and attention_mask is None and cache_is_new(past_key_values):
            visibility.segments = attention.packed_segments(positions)
        wanted = config.output_hidden_states if output_hidden_states is None else output_hidden_states
        weights = config.output_attentions if output_attentions is None else output_attentions
        if weights and model.attn_implementation != "eager":
            raise RequestError(
                f"output_attentions=True: attn_implementation {model.attn_implementation!r} never has the weights in "
                'memory. Load the model with attn_implementation="eager", or call set_attn_implementation("eager").',
                param="output_attentions",
            )
        return cls(
            model, x, positions, visibility, cache, checkpointed, [] if wanted else None, [] if weights else None
        )

    @property
    def rows(self) -> torch.Tensor:
        """x as rows (B * T, D)."""
        return self.x.reshape(-1, self.x.shape[-1])

    @property
    def position_rows(self) -> Any:
        """Positions of the rows (B * T,)."""
        return self.positions.reshape(-1)

    def run_layer(self, ops: Any, config: Any, _weights: Any, index: int, x: Any, rope: Any, attend: Any) -> Any:
        """The layer, with its input noted and, where asked for, its activations computed again when needed.

        It is called as a module and gathers its weights itself: under FSDP they are whole only while it runs.
        """
        if self.hidden_states is not None:
            self.hidden_states.append(x.reshape(self.x.shape))
        module = self.model.layers[index]
        if self.checkpointed:
            return checkpoint(module, ops, config, index, x, rope, attend, use_reentrant=False)
        return module(ops, config, index, x, rope, attend)

    def attend(self, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Attention of rows (B * T, heads * d) over the cache and each other."""
        numbers, config = self.model.numbers, self.model.config
        batch, num_tokens = self.x.shape[:2]
        q, k, v = (
            side.reshape(batch, num_tokens, -1, numbers.head_dim).transpose(1, 2).to(v.dtype) for side in (q, k, v)
        )
        if self.cache is not None:
            k, v = self.cache.update(k, v, layer)
        window = numbers.sliding_windows[layer]
        dropout = float(config.attention_dropout or 0.0) if self.model.training else 0.0
        if self.attentions is not None:
            first = self.visibility.total - k.shape[2]
            weights = attention.eager_weights(q, k, self.visibility.mask(window, 0, num_tokens, first))
            self.attentions.append(weights)
            out = attention.weigh(weights, v, dropout)
        else:
            out = attention.run(self.model.attn_implementation, q, k, v, self.visibility, window, dropout)
        return out.transpose(1, 2).reshape(batch * num_tokens, -1)

    def output(self, hidden: torch.Tensor) -> BaseModelOutputWithPast:
        """The result of the decoder, in HF's form; the last of `hidden_states` is the normed one."""
        last = hidden.reshape(self.x.shape)
        return BaseModelOutputWithPast(
            last_hidden_state=last,
            past_key_values=self.cache,
            hidden_states=None if self.hidden_states is None else (*self.hidden_states, last),
            attentions=None if self.attentions is None else tuple(self.attentions),
        )


def cache_is_new(past_key_values: Past) -> bool:
    """Whether a call continues nothing."""
    if past_key_values is None:
        return True
    return isinstance(past_key_values, DynamicCache) and past_key_values.get_seq_length() == 0


def _embeddings(
    model: DecoderModel, input_ids: torch.Tensor | None, inputs_embeds: torch.Tensor | None
) -> torch.Tensor:
    if (input_ids is None) == (inputs_embeds is None):
        raise RequestError("Give either input_ids (B, T) or inputs_embeds (B, T, D), and not both.", param="input_ids")
    if inputs_embeds is not None:
        if inputs_embeds.dim() != 3 or inputs_embeds.shape[2] != model.numbers.hidden_size:
            raise RequestError(
                f"inputs_embeds must be (B, T, {model.numbers.hidden_size}), not {tuple(inputs_embeds.shape)}.",
                param="inputs_embeds",
            )
        return inputs_embeds
    assert input_ids is not None
    if input_ids.dim() != 2 or input_ids.shape[1] == 0:
        raise RequestError(
            f"input_ids must be (B, T) with T of at least 1, not {tuple(input_ids.shape)}.", param="input_ids"
        )
    if input_ids.device != model.device:
        raise RequestError(
            f"input_ids are on {input_ids.device} and the model on {model.device}: use inputs.to(model.device).",
            param="input_ids",
        )
    if not input_ids.is_cuda:  # looking would make a GPU wait
        low, high = int(input_ids.min()), int(input_ids.max())
        if low < 0 or high >= model.numbers.vocab_size:
            raise RequestError(
                f"input_ids hold {low if low < 0 else high}; ids are 0 .. {model.numbers.vocab_size - 1}.",
                param="input_ids",
            )
    embedded: torch.Tensor = model.embed_tokens(input_ids)
    return embedded


def _cache(model: DecoderModel, past: Past, use_cache: bool, checkpointed: bool) -> DynamicCache | None:
    if checkpointed and past is not None:
        raise RequestError(
            "past_key_values cannot be used in training with gradient checkpointing: a layer that runs twice would "
            "store its K/V twice. Leave them out, or call gradient_checkpointing_disable().",
            param="past_key_values",
        )
    if isinstance(past, DynamicCache):
        return past
    if isinstance(past, list | tuple):
        cache = DynamicCache()
        for layer, (keys, values) in enumerate(past):
            cache.update(keys, values, layer)
        return cache
    if past is not None:
        raise RequestError(
            f"past_key_values must be an ostro.transformers.DynamicCache or pairs of tensors, not "
            f"{type(past).__name__}.",
            param="past_key_values",
        )
    return DynamicCache(model.numbers) if use_cache and not checkpointed else None


def _check_mask(mask: torch.Tensor, x: torch.Tensor, past: int) -> None:
    wanted = (x.shape[0], past + x.shape[1])
    if tuple(mask.shape) != wanted:
        cached = f" ({past} cached positions and {x.shape[1]} new ones)" if past else ""
        raise RequestError(
            f"attention_mask must have the shape {wanted}{cached}, not {tuple(mask.shape)}.", param="attention_mask"
        )


def _positions(x: torch.Tensor, visibility: attention.Visibility, position_ids: torch.Tensor | None) -> torch.Tensor:
    batch, num_tokens = x.shape[:2]
    if position_ids is not None:
        if position_ids.dim() != 2 or position_ids.shape[0] not in (1, batch) or position_ids.shape[1] != num_tokens:
            raise RequestError(
                f"position_ids must have the shape {(batch, num_tokens)}, not {tuple(position_ids.shape)}.",
                param="position_ids",
            )
        return position_ids.to(x.device).expand(batch, -1)
    if visibility.key_mask is not None:
        counted = visibility.key_mask.long().cumsum(-1) - 1
        return counted[:, -num_tokens:].clamp(min=0)
    return torch.arange(visibility.past, visibility.total, device=x.device).expand(batch, -1)
