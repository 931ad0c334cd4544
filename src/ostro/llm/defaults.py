"""The sampling parameters that a checkpoint recommends for itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ostro.checkpoint.text import read_json
from ostro.engine.params import SamplingParams
from ostro.errors import CheckpointError, RequestError
from ostro.log import logger

_HONOURED = {
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "repetition_penalty": "repetition_penalty",
    "max_new_tokens": "max_tokens",
    "min_new_tokens": "min_tokens",
}
# Read elsewhere (token ids), notes of the file's writer, or lengths that the context bounds anyway.
_OTHER_MATTERS = {
    "bos_token_id", "eos_token_id", "pad_token_id", "do_sample", "transformers_version", "_from_model_config",
    "use_cache", "cache_implementation", "max_length", "min_length",
}  # fmt: skip
_NEUTRAL: tuple[Any, ...] = (None, False, 0, 1, [], {})


def default_params(folder: Path | None) -> SamplingParams:
    """`SamplingParams` of a folder's `generation_config.json`; the plain defaults where there is none.

    `do_sample: false` is temperature 0. What else the file asks for and is not done here is named in the log.
    """
    file = None if folder is None else folder / "generation_config.json"
    if file is None or not file.is_file():
        return SamplingParams()
    stated = read_json(file)
    unknown = [key for key, value in stated.items() if key not in _HONOURED | dict.fromkeys(_OTHER_MATTERS)]
    if ignored := sorted(key for key in unknown if stated[key] not in _NEUTRAL):
        logger.warning("%s asks for %s, which is not done here.", file, ", ".join(ignored))
    try:
        return SamplingParams(**_values(stated))
    except RequestError as error:
        raise CheckpointError(f"{file}: {error} Correct the file, or delete the key.") from None


def _values(stated: Mapping[str, Any]) -> dict[str, Any]:
    values = {ours: stated[theirs] for theirs, ours in _HONOURED.items() if stated.get(theirs) is not None}
    if stated.get("do_sample") is False:
        values["temperature"] = 0
    return values


def params_for_each(
    params: SamplingParams | Sequence[SamplingParams] | None, count: int, default: SamplingParams
) -> Sequence[SamplingParams]:
    """What was given for `count` prompts, one for all or a list; None is the default. RequestError for other things."""
    if params is None or isinstance(params, SamplingParams):
        return [params or default] * count
    if not isinstance(params, Sequence) or not all(isinstance(each, SamplingParams) for each in params):
        raise RequestError(
            f"sampling_params must be a SamplingParams or a list of them, not {params!r}.", param="sampling_params"
        )
    if len(params) != count:
        raise RequestError(
            f"{len(params)} sampling_params are given for {count} prompts: give one, or one for each prompt.",
            param="sampling_params",
        )
    return params
