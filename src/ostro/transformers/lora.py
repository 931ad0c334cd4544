"""LoRA over the models of this package: `apply_lora`, `disable_adapter`, `adapter_state`, `load_adapter`.

    from ostro.transformers import AutoModelForCausalLM, LoraConfig, apply_lora, save_adapter

    model = AutoModelForCausalLM.from_pretrained("mistralai/Mistral-7B-v0.1")
    apply_lora(model, LoraConfig(r=16, lora_alpha=32))
    ...                                   # train: only the adapter's parameters require gradients
    save_adapter(model, "my-adapter")     # in the file format of peft

The base is frozen. It may be held in 4 or 8 bits (`BitsAndBytesConfig`), which with NF4 is QLoRA. Adapters are kept in
float32, as peft keeps them, and computed in the type of the activations.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import cast

import torch
import torch.nn.functional as F
from torch import nn

from ostro.checkpoint.lora_config import ALL_LINEAR, LoraConfig
from ostro.errors import RequestError
from ostro.transformers.modeling import PreTrainedModel
from ostro.transformers.quantization import QuantizedLinear

_ROUTER = "block_sparse_moe.gate"


class LoraLinear(nn.Module):
    """x (..., K) -> base(x) + scaling * B(A(dropout(x))), (..., N); `base_layer` is frozen.

    Where the activations are not float32, A and B are rounded to their type when they are used.
    """

    def __init__(self, base_layer: nn.Module, rank: int, scaling: float, dropout: float) -> None:
        super().__init__()
        num_outputs, num_inputs = _shape_of(base_layer)
        device = next((t.device for t in (*base_layer.parameters(), *base_layer.buffers())), torch.device("cpu"))
        self.base_layer = base_layer
        self.lora_A = nn.Linear(num_inputs, rank, bias=False, device=device, dtype=torch.float32)
        self.lora_B = nn.Linear(rank, num_outputs, bias=False, device=device, dtype=torch.float32)
        self.scaling = scaling
        self.dropout = dropout
        self.is_enabled = True

    @property
    def in_features(self) -> int:
        """K."""
        return self.lora_A.in_features

    @property
    def out_features(self) -> int:
        """N."""
        return self.lora_B.out_features

    def init_adapter(self, kind: bool | str) -> None:
        """Random numbers as `LoraConfig.init_lora_weights` says."""
        if kind == "gaussian":
            nn.init.normal_(self.lora_A.weight, std=1 / self.lora_A.out_features)
        else:
            nn.init.kaiming_uniform_(self.lora_A.weight, a=math.sqrt(5))
        if kind is False:
            nn.init.kaiming_uniform_(self.lora_B.weight, a=math.sqrt(5))
        else:
            nn.init.zeros_(self.lora_B.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The sum, in x's type."""
        y: torch.Tensor = self.base_layer(x)
        if not self.is_enabled:
            return y
        inner = F.dropout(x, self.dropout, training=self.training) if self.dropout else x
        a, b = (side.weight.to(x.dtype) for side in (self.lora_A, self.lora_B))
        thin = F.linear(inner, a)
        if y.dim() != 2 or thin.dtype != y.dtype:
            return y + F.linear(thin, b) * self.scaling
        return torch.addmm(y, thin, b.t(), alpha=self.scaling)

    def extra_repr(self) -> str:
        """Shown by print(model)."""
        return f"rank={self.lora_A.out_features}, scaling={self.scaling:g}, dropout={self.dropout:g}"


class SavedModule(nn.Module):
    """A module that the adapter brings whole: `trained` acts, or with the adapter off the frozen `base_layer`."""

    def __init__(self, base_layer: nn.Module) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.trained = copy.deepcopy(base_layer)
        self.is_enabled = True

    @property
    def active(self) -> nn.Module:
        """The one of the two that acts."""
        return self.trained if self.is_enabled else self.base_layer

    @property
    def weight(self) -> torch.Tensor:
        """The acting one's weight: norms are used by it alone."""
        return cast("torch.Tensor", self.active.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """What the acting one returns."""
        y: torch.Tensor = self.active(x)
        return y


def apply_lora(model: PreTrainedModel, config: LoraConfig) -> list[str]:
    """Freeze a model and lay an adapter over it, in place; the names of the modules that it trains.

    RequestError for targets that the model does not have or that cannot be adapted, and for a model with an adapter.
    """
    config.require_trainable()
    names = install(model, config)
    for module in model.modules():
        if isinstance(module, LoraLinear):
            module.init_adapter(config.init_lora_weights)
    return names


def install(model: PreTrainedModel, config: LoraConfig) -> list[str]:
    """As `apply_lora`, with the numbers of A and B left to be filled in."""
    if has_adapter(model):
        raise RequestError("The model has an adapter already: load the base again, or merge the first one.")
    config = resolve(model, config)
    targets = _find_targets(model, config)
    saved = _find_saved(model, config)
    model.requires_grad_(False)
    for name in targets:
        base = model.get_submodule(name)
        layer = LoraLinear(base, config.rank(name), config.scaling(name), config.lora_dropout)
        _replace(model, name, layer)
    for name in saved:
        wrapped = SavedModule(model.get_submodule(name))
        wrapped.trained.requires_grad_(True)
        _replace(model, name, wrapped)
    model.adapter_config = config
    return [*targets, *saved]


def resolve(model: PreTrainedModel, config: LoraConfig) -> LoraConfig:
    """The config with "all-linear" replaced by the ends of the names that it stands for in this model."""
    if config.target_modules != ALL_LINEAR:
        return config
    linear = [name for name, module in model.named_modules() if _is_linear(module)]
    ends = {name.rpartition(".")[2] for name in linear if ".layers." in f".{name}" and not name.endswith(_ROUTER)}
    return config.with_targets(sorted(ends))


@contextmanager
def disable_adapter(model: nn.Module) -> Iterator[None]:
    """Within the block the model is its base alone: the reference of DPO, without a second copy.

    with disable_adapter(model), torch.no_grad():
        reference = model(input_ids).logits
    """
    changed = [module for module in _wrappers(model) if module.is_enabled]
    for module in changed:
        module.is_enabled = False
    try:
        yield
    finally:
        for module in changed:
            module.is_enabled = True


def has_adapter(model: nn.Module) -> bool:
    """Whether an adapter lies over the model."""
    return next(_wrappers(model), None) is not None


def adapter_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """The trained tensors, not copied, by their names in peft's files without the prefix `base_model.model.`.

    They are "model.layers.0.self_attn.q_proj.lora_A.weight", and "score.weight" for a module that is trained whole.
    """
    return dict(_parts(model))


def load_adapter_state(model: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Copy what `adapter_state` gave into the adapter of a model; RequestError unless names and shapes are the same."""
    parts = dict(_parts(model))
    if parts.keys() != state.keys():
        odd = sorted(parts.keys() ^ state.keys())
        raise RequestError(f"This is the state of another adapter: {', '.join(odd[:3])} is in one of the two alone.")
    with torch.no_grad():
        for name, part in parts.items():
            if part.shape != state[name].shape:
                raise RequestError(
                    f"{name} has the shape {tuple(state[name].shape)}, and the adapter's {tuple(part.shape)}."
                )
            part.copy_(state[name])


def _parts(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    for name, module in model.named_modules():
        if isinstance(module, LoraLinear):
            yield f"{name}.lora_A.weight", module.lora_A.weight
            yield f"{name}.lora_B.weight", module.lora_B.weight
        elif isinstance(module, SavedModule):
            for key, tensor in module.trained.named_parameters():
                yield f"{name}.{key}", tensor


def _wrappers(model: nn.Module) -> Iterator[LoraLinear | SavedModule]:
    for module in model.modules():
        if isinstance(module, LoraLinear | SavedModule):
            yield module


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear | QuantizedLinear)


def _shape_of(layer: nn.Module) -> tuple[int, int]:
    assert isinstance(layer, nn.Linear | QuantizedLinear)
    return layer.out_features, layer.in_features


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    owner, _, child = name.rpartition(".")
    module.train(model.training)  # a module is made in training mode, where dropout acts
    setattr(model.get_submodule(owner), child, module)


def _find_targets(model: PreTrainedModel, config: LoraConfig) -> list[str]:
    named = [(name, module) for name, module in model.named_modules() if name and config.targets(name)]
    for name, module in named:
        if not _is_linear(module):
            raise RequestError(
                f"target_modules: {name} is a {type(module).__name__}, and LoRA is for linear layers. Take it out, or "
                "train it whole: modules_to_save.",
                param="target_modules",
            )
        if name == "lm_head" and _is_tied(model):
            raise _tied("target_modules", name)
    if not named:
        raise RequestError(
            f"target_modules {config.target_modules!r} matches no module of {type(model).__name__}; its linear layers "
            f"are {', '.join(sorted(_linear_ends(model)))}.",
            param="target_modules",
        )
    return [name for name, _ in named]


def _find_saved(model: PreTrainedModel, config: LoraConfig) -> list[str]:
    found = [name for name, _ in model.named_modules() if name and config.saves(name)]
    for wanted in config.modules_to_save:
        matching = [name for name in found if name == wanted or name.endswith(f".{wanted}")]
        if not matching:
            raise RequestError(
                f"modules_to_save: {type(model).__name__} has no module {wanted!r}.", param="modules_to_save"
            )
        for name in matching:
            module = model.get_submodule(name)
            if isinstance(module, QuantizedLinear):
                raise RequestError(
                    f"modules_to_save: {name} is held in 4 or 8 bits and cannot be trained whole. Load the model with "
                    f"llm_int8_skip_modules=[{wanted!r}].",
                    param="modules_to_save",
                )
            if list(module.children()):
                raise RequestError(
                    f"modules_to_save: {name} has modules within it; name those instead.", param="modules_to_save"
                )
            if name in ("lm_head", "model.embed_tokens", "embed_tokens") and _is_tied(model):
                raise _tied("modules_to_save", name)
    return found


def _linear_ends(model: nn.Module) -> set[str]:
    return {name.rpartition(".")[2] for name, module in model.named_modules() if _is_linear(module)}


def _is_tied(model: PreTrainedModel) -> bool:
    return bool(model.has_lm_head and model.config.tie_word_embeddings)


def _tied(param: str, name: str) -> RequestError:
    return RequestError(
        f"{param}: {name} is tied to the {'embeddings' if name == 'lm_head' else 'output head'} in this model, so one "
        "cannot be trained without the other. Leave it out.",
        param=param,
    )
