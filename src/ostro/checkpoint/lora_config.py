"""`LoraConfig`: what peft's `adapter_config.json` says of a LoRA adapter, field by field.

An adapter adds to the output of a linear layer W (N, K) a product of two thin matrices, B (N, r) times A (r, K), scaled
(LoRA, Hu et al. 2021, section 4.1). Names, defaults and the matching of modules are those of Hugging Face's peft.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ostro.errors import CheckpointError, RequestError

ALL_LINEAR = "all-linear"
_TRAINED_INITS = (True, False, "gaussian")
_READ_INITS = (*_TRAINED_INITS, "eva", "orthogonal")  # these begin from other numbers, and leave the base as it is

# What changes the arithmetic and is not computed here, with its neutral values.
_REFUSED: Mapping[str, tuple[Any, ...]] = {
    "use_dora": (False, None), "bias": ("none", None), "fan_in_fan_out": (False, None), "lora_bias": (False, None),
    "use_qalora": (False, None), "use_bdlora": (False, None), "layer_replication": (None,), "loftq_config": ({}, None),
    "target_parameters": (None, []), "trainable_token_indices": (None, [], {}), "alora_invocation_tokens": (None,),
    "megatron_config": (None,), "arrow_config": (None,), "kasa_config": (None,), "monteclora_config": (None,),
    "velora_config": (None,), "corda_config": (None,), "lora_ga_config": (None,), "ensure_weight_tying": (False, None),
}  # fmt: skip
# What says where an adapter comes from, or how it was begun, and changes no number of it.
_NOTES = frozenset({
    "peft_type", "peft_version", "auto_mapping", "revision", "inference_mode", "megatron_core", "qalora_group_size",
    "eva_config", "runtime_config",
})  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraConfig:
    """How a LoRA adapter lies over its base model.

    `target_modules` are names, or ends of names, of linear layers ("q_proj"), a regular expression that a whole name
    must match, or "all-linear": every one but the output head and a router. `modules_to_save` are modules that are
    trained whole and stored with the adapter ("score", "lm_head"). The product is scaled by lora_alpha / r, or by
    lora_alpha / sqrt(r) with `use_rslora`; `rank_pattern` and `alpha_pattern` have other values for modules whose name
    ends as the key, a regular expression, says. `lora_dropout` acts on the input of A in training.
    `init_lora_weights`: True draws A from Kaiming's uniform distribution, "gaussian" from a normal one, both with B at
    zero, so that training begins with the base itself; False draws both, which is for tests.

    >>> config = LoraConfig(r=8, lora_alpha=16, target_modules=("q_proj", "v_proj"))
    >>> config.targets("model.layers.0.self_attn.q_proj"), config.scaling("model.layers.0.self_attn.q_proj")
    (True, 2.0)
    """

    r: int = 8
    lora_alpha: float = 8
    lora_dropout: float = 0.0
    target_modules: str | Sequence[str] = ALL_LINEAR
    exclude_modules: str | Sequence[str] | None = None
    modules_to_save: Sequence[str] = ()
    layers_to_transform: int | Sequence[int] | None = None
    use_rslora: bool = False
    init_lora_weights: bool | str = True
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    task_type: str | None = None
    base_model_name_or_path: str | None = None

    def __post_init__(self) -> None:
        for name, rank in (("r", self.r), *(("rank_pattern", rank) for rank in self.rank_pattern.values())):
            if not _is_int(rank) or rank < 1:
                raise RequestError(f"{name} must be a whole number of at least 1, not {rank!r}.", param=name)
        for name, alpha in (
            ("lora_alpha", self.lora_alpha),
            *(("alpha_pattern", alpha) for alpha in self.alpha_pattern.values()),
        ):
            if not _is_number(alpha) or not math.isfinite(alpha) or alpha <= 0:
                raise RequestError(f"{name} must be a number greater than 0, not {alpha!r}.", param=name)
        if not _is_number(self.lora_dropout) or not 0 <= self.lora_dropout < 1:
            raise RequestError(
                f"lora_dropout must be at least 0 and less than 1, not {self.lora_dropout!r}.", param="lora_dropout"
            )
        if self.init_lora_weights not in _READ_INITS:
            raise RequestError(
                f'init_lora_weights must be true, false or "gaussian", not {self.init_lora_weights!r}: others change '
                "the weights of the base model, which ostro leaves as they are.",
                param="init_lora_weights",
            )
        for name in ("target_modules", "exclude_modules", "modules_to_save"):
            self._check_names(name)
        for name in ("rank_pattern", "alpha_pattern"):
            for pattern in getattr(self, name):
                _check_pattern(name, pattern)
        for name in ("target_modules", "exclude_modules", "modules_to_save"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                object.__setattr__(self, name, tuple(value))

    def _check_names(self, name: str) -> None:
        value = getattr(self, name)
        if isinstance(value, str) and name != "modules_to_save":
            if value != ALL_LINEAR:
                _check_pattern(name, value)
        elif isinstance(value, str) or not all(isinstance(each, str) and each for each in value or ()):
            raise RequestError(f"{name} must be a list of names of modules, not {value!r}.", param=name)
        elif name == "target_modules" and not value:
            raise RequestError(
                'target_modules is empty, so nothing would be trained: name linear layers, such as ["q_proj", '
                f'"v_proj"], or give "{ALL_LINEAR}".',
                param=name,
            )

    def targets(self, module: str) -> bool:
        """Whether the linear layer of that name gets an A and a B; "all-linear" must have been resolved before."""
        assert self.target_modules != ALL_LINEAR
        if self.exclude_modules and _named(self.exclude_modules, module):
            return False
        if self.saves(module) or not _named(self.target_modules, module):
            return False
        if self.layers_to_transform is None or isinstance(self.target_modules, str):
            return True
        chosen = self.layers_to_transform
        layer = re.search(r"(?:^|\.)layers\.(\d+)\.", module)
        return layer is not None and int(layer[1]) in ((chosen,) if isinstance(chosen, int) else chosen)

    def saves(self, module: str) -> bool:
        """Whether the module of that name is trained whole."""
        return _named(tuple(self.modules_to_save), module)

    def rank(self, module: str) -> int:
        """r of a module."""
        return int(_of_pattern(self.rank_pattern, module, self.r))

    def scaling(self, module: str) -> float:
        """What the product of B and A is multiplied with."""
        alpha, rank = _of_pattern(self.alpha_pattern, module, self.lora_alpha), self.rank(module)
        return float(alpha / (math.sqrt(rank) if self.use_rslora else rank))

    def with_targets(self, modules: Sequence[str]) -> LoraConfig:
        """The same for these modules."""
        return replace(self, target_modules=tuple(modules))

    def require_trainable(self) -> None:
        """RequestError for what can be read, and not begun."""
        if self.init_lora_weights not in _TRAINED_INITS:
            raise RequestError(
                f'init_lora_weights={self.init_lora_weights!r}: training begins from true, false or "gaussian" here.',
                param="init_lora_weights",
            )

    def to_dict(self) -> dict[str, Any]:
        """`adapter_config.json` as peft reads it."""
        targets = self.target_modules
        return {
            "alpha_pattern": dict(self.alpha_pattern),
            "auto_mapping": None,
            "base_model_name_or_path": self.base_model_name_or_path,
            "bias": "none",
            "exclude_modules": _plain(self.exclude_modules),
            "fan_in_fan_out": False,
            "inference_mode": True,
            "init_lora_weights": self.init_lora_weights,
            "layers_pattern": None,
            "layers_to_transform": _plain(self.layers_to_transform),
            "lora_alpha": self.lora_alpha,
            "lora_dropout": self.lora_dropout,
            "modules_to_save": list(self.modules_to_save) or None,
            "peft_type": "LORA",
            "r": self.r,
            "rank_pattern": dict(self.rank_pattern),
            "revision": None,
            "target_modules": targets if isinstance(targets, str) else list(targets),
            "task_type": self.task_type,
            "use_dora": False,
            "use_rslora": self.use_rslora,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], source: str) -> LoraConfig:
        """The config of an `adapter_config.json`; CheckpointError, naming `source`, for what is refused."""
        if values.get("peft_type") != "LORA":
            raise CheckpointError(
                f"{source}: peft_type is {values.get('peft_type')!r}; ostro runs adapters of type LORA. Merge this one "
                "with the library that made it."
            )
        known = set(cls.__dataclass_fields__)
        for key, value in values.items():
            if key in _REFUSED and value not in _REFUSED[key]:
                raise CheckpointError(
                    f"{source}: {key} is {value!r}, a variant of LoRA that ostro does not compute. Train without it, "
                    "or merge the adapter with the library that made it."
                )
            if key == "layers_pattern" and value not in (None, [], "", "layers", ["layers"]):
                raise CheckpointError(f'{source}: layers_pattern is {value!r}; the layers of this model are "layers".')
            is_ours = key in known or key in _REFUSED or key in _NOTES or key == "layers_pattern"
            if not is_ours and value not in (None, False, {}, []):
                raise CheckpointError(
                    f"{source}: {key} ({value!r}) is not known here, so it cannot be honoured. Merge the adapter with "
                    "the library that made it."
                )
        stated = {key: value for key, value in values.items() if key in known and value is not None}
        try:
            return cls(**stated)
        except (RequestError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{source}: {error}") from None


def _named(names: str | Sequence[str], module: str) -> bool:
    """Whether a pattern matches the whole name, or the name is one of a list or ends with it."""
    if isinstance(names, str):
        return re.fullmatch(names, module) is not None
    return any(module == name or module.endswith(f".{name}") for name in names)


def _of_pattern(pattern: Mapping[str, Any], module: str, default: Any) -> Any:
    """The value of the first key that the name, or its end after a dot, matches."""
    for key, value in pattern.items():
        if re.match(rf"(.*\.)?({key})$", module):
            return value
    return default


def _check_pattern(name: str, pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise RequestError(f"{name}: {pattern!r} is not a regular expression: {error}.", param=name) from None


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, str | int) else list(value)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
