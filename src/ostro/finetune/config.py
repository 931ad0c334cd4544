"""What a training run is told: frozen dataclasses, read from YAML, every key known and checked.

    model: mistralai/Mistral-7B-Instruct-v0.3
    output_dir: runs/support
    method: qlora
    data:
      train: support.jsonl
      eval_split: 0.02
      max_length: 2048
    epochs: 2
    learning_rate: 2e-4

Paths are relative to the folder that the command is run in, as everywhere on a command line.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from ostro.finetune.config_reader import BadKey, Source, load_yaml, parse_scalar, read_section, set_path

Method = Literal["full", "lora", "qlora"]
Dtype = Literal["float32", "bfloat16"]
ScheduleName = Literal["cosine", "linear", "constant"]
OptimizerName = Literal["adamw", "muon"]


def _at_least(owner: object, smallest: float, *keys: str) -> None:
    for key in keys:
        value = getattr(owner, key)
        if value is not None and value < smallest:
            raise BadKey(key, f"must be at least {smallest}, not {value}.")


def _share(owner: object, *keys: str, below_one: bool = True) -> None:
    for key in keys:
        value = getattr(owner, key)
        if not 0 <= value <= 1 or (below_one and value == 1):
            raise BadKey(key, f"must be from 0 to {'below ' if below_one else ''}1, not {value}.")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The `data` section: what is trained and evaluated on, and how it becomes rows of tokens."""

    train: tuple[str, ...]  # files, one or a list
    eval: tuple[str, ...] = ()  # files to evaluate on
    eval_split: float = 0.0  # or: this share of the records of `train`, held out by a fixed rule
    format: str = "auto"  # of the records; auto: told by the keys of the first
    max_length: int = 2048  # tokens of a row, and the most of one example
    overlong: Literal["error", "truncate", "drop", "split"] | None = None  # what becomes of a longer example; none: a
    # text is split, anything else is an error
    prompt_format: str | None = None  # such as mistral-v3 or llama-3.1; none: the one the model is served with
    packing: bool = True  # several examples in a row, which do not see one another

    def __post_init__(self) -> None:
        if not self.train:
            raise BadKey("train", "names no file: give a path or a list of paths.")
        _share(self, "eval_split")
        _at_least(self, 2, "max_length")
        if self.eval and self.eval_split:
            raise BadKey("eval_split", "and eval are both given: keep one of them.")


@dataclass(frozen=True, kw_only=True)
class LoraSection:
    """The `lora` section: which matrices get an adapter, and of what size; names are peft's."""

    r: int = 16  # the rank
    alpha: float = 32.0  # the update is scaled by alpha / r
    dropout: float = 0.0
    target_modules: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    modules_to_save: tuple[str, ...] = ()  # trained whole and kept beside the adapter
    use_rslora: bool = False  # scaled by alpha / sqrt(r)

    def __post_init__(self) -> None:
        _at_least(self, 1, "r")
        _share(self, "dropout")
        if self.alpha <= 0:
            raise BadKey("alpha", f"must be greater than 0, not {self.alpha}.")
        if not self.target_modules:
            raise BadKey("target_modules", "is empty: name at least one matrix, such as q_proj.")


@dataclass(frozen=True, kw_only=True)
class Samples:
    """The `samples` section: prompts that the model continues at every evaluation, for a person to read."""

    prompts: tuple[str, ...] = ()
    max_tokens: int = 64

    def __post_init__(self) -> None:
        _at_least(self, 1, "max_tokens")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What every training has: data, length, optimizer, schedule, and what is kept. Units: tokens and steps.

    A step is one update of the weights, from `gradient_accumulation` micro batches of `micro_batch_size` rows.
    """

    output_dir: Path
    data: DataConfig
    dtype: Dtype = "bfloat16"  # of the arithmetic; what is trained is kept in float32 as well
    device: str = "auto"
    num_threads: int | None = None  # of the CPU; none: PyTorch's choice
    seed: int = 0
    steps: int | None = None
    epochs: float | None = None
    micro_batch_size: int = 1
    gradient_accumulation: int | None = None
    batch_tokens: int | None = None  # tokens of a step; another way to say gradient_accumulation
    gradient_checkpointing: bool = False
    optimizer: OptimizerName = "adamw"  # muon: for the matrices of the layers, with AdamW for the rest
    learning_rate: float
    schedule: ScheduleName = "cosine"
    warmup_steps: int | None = None
    warmup_ratio: float = 0.0
    min_lr_ratio: float = 0.0  # the learning rate at the end, as a share of its peak
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    max_grad_norm: float = 1.0  # 0: gradients are not clipped
    eval_every: int | None = None  # steps; none: at the end only
    save_every: int | None = None  # steps; none: at the end and on Ctrl-C only
    keep_checkpoints: int = 2
    samples: Samples = field(default_factory=Samples)

    def __post_init__(self) -> None:
        if self.steps is None and self.epochs is None:
            raise BadKey("steps", "or epochs must be given.")
        if self.steps is not None and self.epochs is not None:
            raise BadKey("steps", "and epochs are both given: keep one of them; `--set epochs=null` takes that out.")
        if self.batch_tokens is not None and self.gradient_accumulation is not None:
            raise BadKey("batch_tokens", "and gradient_accumulation are both given: keep one of them.")
        counts = ("steps", "micro_batch_size", "gradient_accumulation", "batch_tokens", "num_threads", "eval_every")
        _at_least(self, 1, *counts, "save_every", "keep_checkpoints")
        _at_least(self, 0, "warmup_steps", "weight_decay", "max_grad_norm", "seed")
        _share(self, "warmup_ratio", "min_lr_ratio", below_one=False)
        for key in ("learning_rate", "epochs", "eps"):
            value = getattr(self, key)
            if value is not None and value <= 0:
                raise BadKey(key, f"must be greater than 0, not {value}.")
        for beta in self.betas:
            if not 0 <= beta < 1:
                raise BadKey("betas", f"must be two numbers from 0 to below 1, not {list(self.betas)}.")
        if self.warmup_steps is not None and self.warmup_ratio:
            raise BadKey("warmup_ratio", "and warmup_steps are both given: keep one of them.")
        self._check_batch()

    def _check_batch(self) -> None:
        rows = self.micro_batch_size * self.data.max_length
        if self.batch_tokens is not None and self.batch_tokens % rows:
            raise BadKey(
                "batch_tokens",
                f"must be a multiple of micro_batch_size * data.max_length = {rows}, not {self.batch_tokens}; the "
                f"nearest are {max(1, self.batch_tokens // rows) * rows} and {(self.batch_tokens // rows + 1) * rows}.",
            )

    @property
    def micro_batches(self) -> int:
        """Micro batches of one step."""
        if self.batch_tokens is not None:
            return self.batch_tokens // (self.micro_batch_size * self.data.max_length)
        return self.gradient_accumulation or 1

    @classmethod
    def from_yaml(cls, path: str | Path, options: Sequence[str] = ()) -> Self:
        """The configuration in a YAML file; `options`, such as "data.packing=false", replace keys of it.

        ConfigError names file, line and key of what is unknown, missing or out of range, and the remedy.
        """
        data, lines = load_yaml(Path(path))
        given: set[str] = set()
        for option in options:
            key, equals, text = option.partition("=")
            if not equals or not key:
                raise Source("--set").error("", f"{option!r} must be of the form key=value.")
            set_path(data, key, parse_scalar(text))
            given.add(key)
        return read_section(cls, data, Source(str(path), lines, frozenset(given)))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The configuration of the same keys as the YAML file has, nested dicts for sections."""
        return read_section(cls, data, Source("the configuration"))

    def to_dict(self) -> dict[str, Any]:
        """The keys and values, defaults included, as YAML and JSON can hold them."""
        values: dict[str, Any] = _plain(dataclasses.asdict(self))
        return values


@dataclass(frozen=True, kw_only=True)
class TrainConfig(RunConfig):
    """Fine-tuning of a model that is there: `ostro finetune sft`."""

    model: str  # a folder, an alias or a hub repository
    method: Method = "full"
    lora: LoraSection | None = None  # of methods lora and qlora

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lora is not None and self.method == "full":
            raise BadKey("lora", "is given with method: full, which trains all weights. Use method: lora or qlora.")
        if self.optimizer == "muon" and self.method != "full":
            raise BadKey(
                "optimizer", f"muon is for whole matrices, not for adapters (method: {self.method}): use adamw."
            )

    @property
    def lora_section(self) -> LoraSection:
        """The `lora` section, or its defaults."""
        return self.lora or LoraSection()


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(RunConfig):
    """Training from random weights: `ostro pretrain`."""

    model: str | dict[str, Any]  # the path of a config.json, or its content: model_type, hidden_size, ...
    tokenizer: str  # a folder with the tokenizer's files
    init_seed: int | None = None  # of the random weights; none: `seed`
    scale_residual_init: bool = False  # what is added to the residual stream begins smaller by sqrt(2 * layers)
    shuffle_documents: bool = True  # in every epoch anew; false: in the order of the files


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
