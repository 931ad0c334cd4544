"""`pipeline("text-generation")`: from text or chat to text in one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ostro.errors import RequestError
from ostro.ops.torch import find_device
from ostro.transformers.auto import AutoModelForCausalLM
from ostro.transformers.batch import make_batch, pad_rows
from ostro.transformers.generation_config import GenerationConfig
from ostro.transformers.heads import ForCausalLM
from ostro.transformers.tokenization import AutoTokenizer, PreTrainedTokenizer, own_tokenizer

DEFAULTS: dict[str, Any] = {"max_new_tokens": 256, "do_sample": True, "temperature": 0.7}
"""What neither the call nor the model's generation config states, as in transformers' pipeline."""


def pipeline(
    task: str | None = None,
    model: str | Path | ForCausalLM | None = None,
    tokenizer: str | Path | PreTrainedTokenizer | None = None,
    *,
    revision: str | None = None,
    device: str | int | torch.device | None = None,
    device_map: Any = None,
    dtype: Any = None,
    torch_dtype: Any = None,
    model_kwargs: Mapping[str, Any] | None = None,
) -> TextGenerationPipeline:
    """A text generation pipeline.

    `model` is a name or folder, or a model; `tokenizer` by default the model's own. `model_kwargs` go to
    `from_pretrained`, `load_in_4bit` among them; `device`, a name or number (-1 is the CPU), or `device_map` says where
    the model lies. Raises RequestError for another task.
    """
    if task not in (None, "text-generation"):
        raise RequestError(f'The task {task!r} is not done here; "text-generation" is.', param="task")
    if model is None:
        raise RequestError("pipeline needs a model: a name, a folder or a model.", param="model")
    if device is not None and device_map is not None:
        raise RequestError("device and device_map both say where the model lies: give one.", param="device")
    where = "cpu" if device == -1 else device
    options = {"revision": revision, "device_map": device_map, "dtype": dtype, "torch_dtype": torch_dtype}
    given = {**{key: value for key, value in options.items() if value is not None}, **(model_kwargs or {})}
    if isinstance(model, ForCausalLM):
        if given:
            raise RequestError(
                f"{', '.join(given)}: the model is loaded already. Pass these to its from_pretrained.",
                param=next(iter(given)),
            )
        loaded = model if where is None else model.to(find_device(where))
    else:
        loaded = AutoModelForCausalLM.from_pretrained(
            model, **(given if where is None else {"device_map": where, **given})
        )
    chosen = tokenizer if tokenizer is not None else loaded.name_or_path
    if isinstance(chosen, str | Path):
        if not str(chosen):
            raise RequestError("This model came from no checkpoint: give its tokenizer too.", param="tokenizer")
        chosen = AutoTokenizer.from_pretrained(chosen, **({"revision": revision} if revision else {}))
    return TextGenerationPipeline(loaded, own_tokenizer(chosen))


class TextGenerationPipeline:
    """A model with its tokenizer. Calling it generates text; see `__call__`."""

    task = "text-generation"

    def __init__(self, model: ForCausalLM, tokenizer: PreTrainedTokenizer) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer

    @property
    def device(self) -> torch.device:
        """Where the model lies."""
        return self.model.device

    def __call__(
        self,
        text_inputs: Any,
        *,
        return_full_text: bool | None = None,
        return_tensors: bool = False,
        add_special_tokens: bool = True,
        batch_size: int = 1,
        **generate_kwargs: Any,
    ) -> list[Any]:
        """Text for a prompt, a chat (a list of messages), or a list of either.

        One input gives `[{"generated_text": ...}]`, with one entry for each of `num_return_sequences`; a list gives a
        list of these. The text includes the prompt unless `return_full_text=False`; a chat's value is the chat with the
        answer as its last message. `return_tensors=True` gives `{"generated_token_ids": [...]}` instead. `batch_size`
        inputs run together, padded on the left. Other arguments are those of `generate`. Where neither they nor the
        model's generation config say otherwise, 256 new tokens are sampled at the temperature 0.7: `do_sample=False`
        gives the same text every time.
        """
        if batch_size < 1:
            raise RequestError(f"batch_size must be at least 1, not {batch_size}.", param="batch_size")
        single = isinstance(text_inputs, str) or _is_chat(text_inputs)
        inputs = [text_inputs] if single else list(text_inputs)
        full = not return_tensors if return_full_text is None else return_full_text
        results: list[Any] = []
        for start in range(0, len(inputs), batch_size):
            results += self._run(
                inputs[start : start + batch_size], full, return_tensors, add_special_tokens, generate_kwargs
            )
        return results[0] if single else results

    def _run(
        self, inputs: list[Any], full: bool, tensors: bool, special: bool, kwargs: Mapping[str, Any]
    ) -> list[list[dict[str, Any]]]:
        rows = [self._ids(item, special) for item in inputs]
        width = max(map(len, rows))
        fill = next((i for i in (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id) if i is not None), 0)
        padded = pad_rows(rows, True, fill, width, None, "left")
        batch = make_batch(padded, "pt", single=False, with_mask=True).to(self.device)
        out = self.model.generate(**batch, **self._settings(kwargs, width))
        copies = len(out) // len(rows)
        return [
            [
                self._record(inputs[i], rows[i], out[i * copies + j, width:].tolist(), full, tensors)
                for j in range(copies)
            ]
            for i in range(len(rows))
        ]

    def _settings(self, kwargs: Mapping[str, Any], width: int) -> dict[str, Any]:
        """The arguments of `generate` for prompts of `width` tokens: the caller's, and what they leave open."""
        given = kwargs.get("generation_config") or GenerationConfig()
        stated = {**self.model.generation_config.to_dict(), **given.to_dict(), **kwargs}
        room = max(1, self.model.config.max_position_embeddings - width)
        added = {**DEFAULTS, "max_new_tokens": min(DEFAULTS["max_new_tokens"], room), "tokenizer": self.tokenizer}
        if "max_length" in stated:
            del added["max_new_tokens"]
        if self.tokenizer.pad_token_id is not None:
            added["pad_token_id"] = self.tokenizer.pad_token_id
        return {**{key: value for key, value in added.items() if key not in stated}, **kwargs}

    def _ids(self, item: Any, special: bool) -> list[int]:
        if _is_chat(item):
            continues = item[-1].get("role") == "assistant"
            ids: list[int] = self.tokenizer.apply_chat_template(
                item, add_generation_prompt=not continues, continue_final_message=continues
            )
            return ids
        if not isinstance(item, str):
            raise RequestError(
                f"An input must be a string or a list of messages, not {type(item).__name__}.", param="text_inputs"
            )
        encoded: list[int] = self.tokenizer(item, add_special_tokens=special)["input_ids"]
        return encoded

    def _record(self, item: Any, prompt: list[int], new: list[int], full: bool, tensors: bool) -> dict[str, Any]:
        if tensors:
            return {"generated_token_ids": [*(prompt if full else ()), *new]}
        answer = self._answer(prompt, new)
        if not full:
            return {"generated_text": answer}
        if isinstance(item, str):
            return {"generated_text": item + answer}
        if item[-1].get("role") == "assistant":
            return {"generated_text": [*item[:-1], {**item[-1], "content": item[-1]["content"] + answer}]}
        return {"generated_text": [*item, {"role": "assistant", "content": answer}]}

    def _answer(self, prompt: list[int], new: list[int]) -> str:
        """Text of the new tokens after the prompt: a first space that `decode` takes off belongs to it."""
        decode = self.tokenizer.decode
        before = decode(prompt, skip_special_tokens=True)
        return decode([*prompt, *new], skip_special_tokens=True)[len(before) :]


def _is_chat(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and bool(value) and isinstance(value[0], Mapping)
