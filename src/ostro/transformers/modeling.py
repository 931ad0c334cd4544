"""`PreTrainedModel`, what all classes share, and `DecoderModel`, the bare decoder over `ostro.models.llama`.

Shapes: B rows of the batch, T tokens of this call, S positions in all (cached ones first), D hidden size.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Self, cast

import torch
from torch import nn

from ostro.checkpoint.lora_config import LoraConfig
from ostro.errors import RequestError
from ostro.models import llama
from ostro.ops.torch import TorchOps, find_device
from ostro.ops.torch import torch_dtype as dtype_of
from ostro.transformers import attention
from ostro.transformers.cache_utils import Past
from ostro.transformers.configuration import PreTrainedConfig
from ostro.transformers.generation_config import GenerationConfig
from ostro.transformers.modules import DecoderLayer, RMSNorm
from ostro.transformers.outputs import BaseModelOutputWithPast
from ostro.transformers.quantization import BitsAndBytesConfig, QuantizedLinear
from ostro.transformers.sources import one_of


class PreTrainedModel(nn.Module):
    """Base of the models: a `torch.nn.Module` with a config, loading, saving and care for devices.

    A model made from a config has random weights: normal with the deviation `initializer_range`, norms at one.
    """

    config_class: ClassVar[type[PreTrainedConfig]]
    base_model_prefix: ClassVar[str] = "model"
    has_lm_head: ClassVar[bool] = False

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        if not isinstance(config, self.config_class):
            raise RequestError(
                f"{type(self).__name__} is made from a {self.config_class.__name__}, not from {type(config).__name__}; "
                f"{type(self).__name__}.from_pretrained loads a checkpoint by its name.",
                param="config",
            )
        self.config = config
        self.numbers = config.to_model_config()
        self.attn_implementation = "sdpa"
        self.gradient_checkpointing = False
        self.generation_config = GenerationConfig.from_model_config(config)
        self.name_or_path = ""
        self.checkpoint_path: Path | None = None
        """The files that the weights came from; None for random ones."""
        self.quantization_config: BitsAndBytesConfig | None = None
        """How linear layers are held, if in 4 or 8 bits."""
        self.adapter_config: LoraConfig | None = None
        """The adapter that lies over the model (`ostro.transformers.lora`)."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> Self:
        """The model of a checkpoint in any form, in eval mode; see `ostro.transformers.loading.load_model`."""
        from ostro.transformers.loading import load_model

        return load_model(cls, pretrained_model_name_or_path, kwargs)

    @classmethod
    def from_config(
        cls, config: PreTrainedConfig, *, dtype: Any = None, torch_dtype: Any = None, attn_implementation: str = "sdpa"
    ) -> Self:
        """A model with random weights, in float32 or `dtype` (of which `torch_dtype` is the older name)."""
        model = cls(config)
        model.set_attn_implementation(attn_implementation)
        wanted = one_of("dtype", dtype, "torch_dtype", torch_dtype)
        return model if wanted is None else model.to(dtype_of(wanted))

    def save_pretrained(
        self, save_directory: str | Path, *, max_shard_size: int | str = "5GB", safe_serialization: bool = True
    ) -> None:
        """Write safetensors, config.json and generation_config.json, for ostro and transformers alike."""
        from ostro.transformers.saving import save_model

        if not safe_serialization:
            raise RequestError(
                "safe_serialization=False asks for a pickle, which ostro does not write. Leave it out.",
                param="safe_serialization",
            )
        save_model(self, Path(save_directory), max_shard_size)

    def init_weights(self) -> None:
        """Random weights for every module."""
        for module in self.modules():
            self.init_module(module)

    def init_module(self, module: nn.Module) -> None:
        """Random weights for one module, as HF makes them."""
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
            if isinstance(module, nn.Embedding) and module.padding_idx is not None:
                nn.init.zeros_(module.weight[module.padding_idx])
        elif isinstance(module, RMSNorm):
            nn.init.ones_(module.weight)

    @property
    def base_model(self) -> DecoderModel:
        """The decoder inside."""
        return cast("DecoderModel", getattr(self, self.base_model_prefix, self))

    def get_input_embeddings(self) -> nn.Embedding:
        """`embed_tokens`."""
        return self.base_model.embed_tokens

    def get_output_embeddings(self) -> nn.Linear | None:
        """`lm_head`, where the model has one."""
        return getattr(self, "lm_head", None)

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the parameters."""
        return next(p.dtype for p in self.parameters() if p.is_floating_point())

    def num_parameters(self, only_trainable: bool = False) -> int:
        """Number of weights; each of a quantized matrix counts, tied ones count once."""
        packed = [m for m in self.modules() if isinstance(m, QuantizedLinear)]
        frozen = 0 if only_trainable else sum(m.in_features * m.out_features for m in packed)
        return frozen + sum(p.numel() for p in self.parameters() if p.requires_grad or not only_trainable)

    def get_memory_footprint(self, return_buffers: bool = True) -> int:
        """Bytes of parameters and, with `return_buffers`, buffers, which is where quantized weights are held."""
        held = [*self.parameters(), *(self.buffers() if return_buffers else ())]
        return sum(tensor.nbytes for tensor in held)

    @property
    def is_quantized(self) -> bool:
        """Whether linear layers are held in 4 or 8 bits."""
        return any(isinstance(module, QuantizedLinear) for module in self.modules())

    def set_attn_implementation(self, name: str) -> None:
        """One of "sdpa", "eager" and "flash_attention_2"; see `ostro.transformers.attention`."""
        for module in self.modules():
            if isinstance(module, PreTrainedModel):
                module.attn_implementation = attention.check_implementation(name)

    def wants_dict(self, return_dict: bool | None) -> bool:
        """The argument, or the config's choice."""
        return self.config.return_dict if return_dict is None else return_dict

    def gradient_checkpointing_enable(self, gradient_checkpointing_kwargs: dict[str, Any] | None = None) -> None:
        """In training keep one activation a layer and compute the others again in the backward pass."""
        allowed = {"use_reentrant": False}
        if gradient_checkpointing_kwargs not in (None, {}, allowed):
            raise RequestError(
                f"gradient_checkpointing_kwargs may only be {allowed}, not {gradient_checkpointing_kwargs}.",
                param="gradient_checkpointing_kwargs",
            )
        self.base_model.gradient_checkpointing = True

    def gradient_checkpointing_disable(self) -> None:
        """Keep all activations."""
        self.base_model.gradient_checkpointing = False

    @property
    def is_gradient_checkpointing(self) -> bool:
        """Whether it is on."""
        return self.base_model.gradient_checkpointing

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """As `torch.nn.Module.to`; BackendError for a device that is not here."""
        given = [*args, kwargs.get("device")]
        for value in given:
            if isinstance(value, str | torch.device) or (isinstance(value, int) and not isinstance(value, bool)):
                find_device(value)
        if self.is_quantized and any(isinstance(v, torch.dtype) for v in (*given, kwargs.get("dtype"))):
            raise _no_cast()
        return super().to(*args, **kwargs)

    def cuda(self, device: Any = None) -> Self:
        """As `to("cuda")`."""
        return self.to("cuda" if device is None else find_device(device))

    def half(self) -> Self:
        """As `to(torch.float16)`."""
        return self.to(torch.float16)

    def bfloat16(self) -> Self:
        """As `to(torch.bfloat16)`."""
        return self.to(torch.bfloat16)

    def float(self) -> Self:
        """As `to(torch.float32)`."""
        return self.to(torch.float32)


class DecoderModel(PreTrainedModel):
    """Embeddings, layers and the final norm; HF's `MistralModel`, `MixtralModel`, `LlamaModel`."""

    base_model_prefix = ""

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config)
        numbers, pad = self.numbers, config.pad_token_id
        padding = pad if pad is not None and 0 <= pad < numbers.vocab_size else None
        self.embed_tokens = nn.Embedding(numbers.vocab_size, numbers.hidden_size, padding_idx=padding)
        self.layers = nn.ModuleList(DecoderLayer(numbers) for _ in range(numbers.num_hidden_layers))
        self.norm = RMSNorm(numbers.hidden_size)
        self.init_weights()

    @property
    def base_model(self) -> DecoderModel:
        """The model itself."""
        return self

    def weights(self, lm_head: Any = None) -> llama.LlamaWeights:
        """The parameters as `models.llama` takes them; `lm_head` is the embedding where none is given."""
        return llama.LlamaWeights(
            embed_tokens=self.embed_tokens,
            layers=tuple(cast("DecoderLayer", layer).weights() for layer in self.layers),
            norm=self.norm.weight,
            lm_head=self.embed_tokens if lm_head is None else lm_head,
        )

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Past = None,
        inputs_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> BaseModelOutputWithPast | tuple[Any, ...]:
        """Hidden states of the tokens `input_ids` (B, T), or of `inputs_embeds` (B, T, D).

        `attention_mask` (B, S) is 0 at padding, on whichever side. `position_ids` (B, T) count from a row's first token
        that is not padding unless they are given. `past_key_values` is what an earlier call returned, and is extended.
        Given positions that start again within a row, without mask and cache, mark packed sequences, which do not see
        one another. Padding rows of the result mean nothing.

        Raises RequestError, naming the argument, for shapes that do not fit.
        """
        from ostro.transformers.forward import Pass

        step = Pass.prepare(
            self, input_ids, attention_mask, position_ids, past_key_values, inputs_embeds,
            use_cache, output_attentions, output_hidden_states,
        )  # fmt: skip
        ops = TorchOps(device=step.x.device, dtype=step.x.dtype)
        hidden = llama.decode(
            ops, self.numbers, self.weights(), step.rows, step.position_rows, step.attend, step.run_layer
        )
        output = step.output(hidden)
        return output if self.wants_dict(return_dict) else output.to_tuple()


def _no_cast() -> RequestError:
    return RequestError(
        "A model loaded in 4 or 8 bits cannot be cast to another dtype: its packed weights have none. Choose the dtype "
        "when loading: from_pretrained(..., dtype=..., quantization_config=...).",
        param="dtype",
    )
