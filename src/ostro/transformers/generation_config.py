"""`GenerationConfig`: what `generate` is asked to do, from arguments, `generation_config.json` and defaults."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ostro.checkpoint.text import read_json
from ostro.errors import RequestError
from ostro.transformers.configuration import PreTrainedConfig

DEFAULTS: dict[str, Any] = {
    "max_length": None, "max_new_tokens": None, "min_length": 0, "min_new_tokens": None, "do_sample": False,
    "temperature": 1.0, "top_k": 50, "top_p": 1.0, "min_p": None, "repetition_penalty": 1.0,
    "num_return_sequences": 1, "use_cache": True, "stop_strings": None, "bos_token_id": None, "eos_token_id": None,
    "pad_token_id": None,
}  # fmt: skip
"""What is honoured, with HF's defaults; a length that nobody states is 20 new tokens, as HF's is."""

_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "num_beams": (1,), "num_beam_groups": (1,), "length_penalty": (1.0,), "early_stopping": (False,),
    "diversity_penalty": (0.0,), "no_repeat_ngram_size": (0,), "encoder_no_repeat_ngram_size": (0,),
    "encoder_repetition_penalty": (1.0,), "typical_p": (1.0,), "epsilon_cutoff": (0.0,), "eta_cutoff": (0.0,),
    "output_scores": (False,), "output_logits": (False,), "output_attentions": (False,),
    "output_hidden_states": (False,), "return_dict_in_generate": (False,), "remove_invalid_values": (False,),
    "renormalize_logits": (False,), "penalty_alpha": (0.0,), "guidance_scale": (1.0,), "synced_gpus": (False,),
    "prompt_lookup_num_tokens": (), "assistant_early_exit": (), "cache_implementation": ("dynamic",),
    "bad_words_ids": ([],), "force_words_ids": ([],), "constraints": ([],), "suppress_tokens": ([],),
    "begin_suppress_tokens": ([],), "forced_bos_token_id": (), "forced_eos_token_id": (), "sequence_bias": ({},),
    "exponential_decay_length_penalty": (), "max_time": (), "num_assistant_tokens": (20,),
    "num_assistant_tokens_schedule": ("constant", "heuristic"), "assistant_confidence_threshold": (0.4,),
    "watermarking_config": (), "token_healing": (False,), "low_memory": (False,), "dola_layers": (),
    "is_assistant": (False,), "assistant_lookbehind": (10,), "target_lookbehind": (10,),
    "max_matching_ngram_size": (2,), "disable_compile": (False, True), "top_h": (), "trust_remote_code": (False,),
}  # fmt: skip
"""Fields of HF's that `generate` does not compute, with the values that ask for nothing; null asks for nothing too."""

_OUTPUTS = (
    "output_scores", "output_logits", "output_attentions", "output_hidden_states", "return_dict_in_generate",
)  # fmt: skip
_OF_SCORES = (
    "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "encoder_repetition_penalty", "typical_p",
    "epsilon_cutoff", "eta_cutoff", "top_h", "remove_invalid_values", "renormalize_logits", "guidance_scale",
    "bad_words_ids", "suppress_tokens", "begin_suppress_tokens", "forced_bos_token_id", "forced_eos_token_id",
    "sequence_bias", "exponential_decay_length_penalty", "watermarking_config",
)  # fmt: skip

_BOOKKEEPING = ("transformers_version", "_from_model_config", "_commit_hash", "compile_config", "cache_config")


class GenerationConfig:
    """Settings of `generate` as attributes; None is "not stated here".

    Fields are those of `DEFAULTS`. Another field of HF's may be given with the value that asks for nothing; with
    another one, and for an unknown field, `generate` raises RequestError by name.
    """

    max_length: int | None
    max_new_tokens: int | None
    min_length: int | None
    min_new_tokens: int | None
    do_sample: bool | None
    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    repetition_penalty: float | None
    num_return_sequences: int | None
    use_cache: bool | None
    stop_strings: str | list[str] | None
    bos_token_id: int | None
    eos_token_id: int | list[int] | None
    pad_token_id: int | None

    def __init__(self, **values: Any) -> None:
        for name in DEFAULTS:
            setattr(self, name, values.pop(name, None))
        self.extra: dict[str, Any] = {k: v for k, v in values.items() if v is not None and k not in _BOOKKEEPING}
        self._file: tuple[Path, Mapping[str, Any]] | None = None  # what a checkpoint's file states, for messages

    @classmethod
    def from_model_config(cls, config: PreTrainedConfig) -> GenerationConfig:
        """The token ids of a model's config."""
        return cls(bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id, pad_token_id=config.pad_token_id)

    @classmethod
    def from_folder(cls, folder: Path, config: PreTrainedConfig) -> GenerationConfig:
        """`generation_config.json` of a checkpoint, with the config's token ids where it states none."""
        own = cls.from_model_config(config)
        file = folder / "generation_config.json"
        if not file.is_file():
            return own
        stated = read_json(file)
        merged = own.merged(stated)
        merged._file = (file, stated)
        return merged

    def merged(self, values: Mapping[str, Any]) -> GenerationConfig:
        """These settings, replaced by those in `values` that are not None."""
        stated = {key: value for key, value in values.items() if value is not None}
        return GenerationConfig(**{**self.to_dict(), **stated})

    def completed(self, model: GenerationConfig, arguments: Mapping[str, Any]) -> GenerationConfig:
        """What one call does: `arguments`, else these settings, else the model's, else `DEFAULTS`.

        An argument that is None is stated: it turns off what the settings turn on, as in transformers.
        """
        settings = GenerationConfig(**{**DEFAULTS, **model.to_dict(), **self.to_dict(), **arguments})
        settings._file = model._file
        return settings

    def to_dict(self) -> dict[str, Any]:
        """What is stated."""
        known = {name: getattr(self, name) for name in DEFAULTS}
        return {key: value for key, value in (known | self.extra).items() if value is not None}

    def save_pretrained(self, save_directory: str | Path) -> None:
        """Write `generation_config.json`."""
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"
        (folder / "generation_config.json").write_text(text, encoding="utf-8")

    def check(self) -> None:
        """RequestError for a field that `generate` cannot honour, and for a value out of range."""
        for name, value in self.extra.items():
            if name not in _NEUTRAL:
                raise self._refusal(
                    name,
                    value,
                    f"generate has no argument {name!r}. It takes: {', '.join(sorted(DEFAULTS))}, and inputs, "
                    "attention_mask, generation_config, logits_processor, stopping_criteria, streamer, generator, "
                    "tokenizer.",
                )
            if value not in _NEUTRAL[name]:
                raise self._refusal(name, value, f"{name}={value!r}: {_why_not(name)}", f"Leave {name} out.")
        for name, allowed, test in _RANGES:
            value = getattr(self, name)
            if value is not None and not test(value):
                raise self._refusal(name, value, f"{name} must be {allowed}, not {value!r}.")

    def _refusal(self, name: str, value: Any, text: str, remedy: str = "") -> RequestError:
        """Begins with the file that states the value, if one does: then it is not the caller's."""
        file, stated = self._file or (None, {})
        if file is not None and stated.get(name) == value:
            text, remedy = f"{file} states {name} = {value!r}: {text}", f"Pass {name}=None, or mend the file."
        return RequestError(f"{text} {remedy}".rstrip(), param=name)

    def eos_ids(self) -> list[int]:
        """`eos_token_id` as a list."""
        if self.eos_token_id is None:
            return []
        return [self.eos_token_id] if isinstance(self.eos_token_id, int) else list(self.eos_token_id)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GenerationConfig) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]  # it is edited

    def __repr__(self) -> str:
        return f"GenerationConfig {json.dumps(self.to_dict(), indent=2, sort_keys=True)}"


def _why_not(name: str) -> str:
    if name in _OUTPUTS:
        return "generate returns the ids (B, T) and nothing else. For logits call the model on them: model(ids).logits."
    if name in _OF_SCORES:
        return "generate does not change the scores so. A logits_processor, (ids, scores) -> scores, can."
    if name == "max_time":
        return "generate looks at no clock. One of the stopping_criteria, (ids, scores) -> bool, can."
    if name == "trust_remote_code":
        return "ostro runs no code of a checkpoint."
    return "generate does greedy decoding and sampling only."


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_count(value: Any) -> bool:
    return _is_whole(value) and value >= 1


def _are_strings(value: Any) -> bool:
    return all(isinstance(text, str) and text for text in ([value] if isinstance(value, str) else value))


_RANGES: tuple[tuple[str, str, Callable[[Any], bool]], ...] = (
    ("max_new_tokens", "a whole number of at least 1", _is_count),
    ("max_length", "a whole number of at least 1", _is_count),
    ("min_new_tokens", "a whole number of at least 0", _is_whole),
    ("min_length", "a whole number of at least 0", _is_whole),
    ("num_return_sequences", "a whole number of at least 1", _is_count),
    ("temperature", "greater than 0 (for greedy decoding use do_sample=False)", lambda t: t > 0),
    ("top_k", "0 (off) or a whole number of at least 1", _is_whole),
    ("top_p", "greater than 0 and at most 1", lambda p: 0 < p <= 1),
    ("min_p", "from 0 to 1", lambda p: 0 <= p <= 1),
    ("repetition_penalty", "greater than 0", lambda p: p > 0),
    ("stop_strings", "a string or a list of strings, none of them empty", _are_strings),
)
