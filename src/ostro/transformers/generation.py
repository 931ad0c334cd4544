"""`generate`: greedy decoding and sampling for a batch, as HF's method of that name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch

from ostro.errors import ContextLengthError, RequestError
from ostro.transformers import sampling
from ostro.transformers.cache_utils import DynamicCache
from ostro.transformers.generation_config import GenerationConfig
from ostro.transformers.stopping import StopStringCriteria

if TYPE_CHECKING:
    from ostro.transformers.heads import ForCausalLM
    from ostro.transformers.tokenization import PreTrainedTokenizer

DEFAULT_NEW_TOKENS = 20

LogitsProcessor = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
StoppingCriterion = Callable[[torch.Tensor, torch.Tensor], Any]


class Streamer(Protocol):
    """What is told every token as it comes: first the prompts, then one of each row after another, then the end."""

    def put(self, value: torch.Tensor) -> None:
        """The prompts (B, T), then tokens (B,), on the CPU."""

    def end(self) -> None:
        """No more will come."""


class GenerationMixin:
    """Adds `generate` to a language model."""

    def can_generate(self) -> bool:
        """True: the class has a language model's head."""
        return True

    @torch.no_grad()
    def generate(
        self,
        inputs: torch.Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        *,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        logits_processor: Sequence[LogitsProcessor] | None = None,
        stopping_criteria: Sequence[StoppingCriterion] | None = None,
        streamer: Streamer | None = None,
        generator: torch.Generator | None = None,
        tokenizer: PreTrainedTokenizer | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """Prompts `inputs` or `input_ids` (B, T), padded on the left, and what follows them: (B * n, T + new) ids.

        Settings are those of `GenerationConfig`, of three origins, the later ones winning: the model's own
        `generation_config` (a checkpoint's `generation_config.json`), what the argument `generation_config` states, and
        keyword arguments, of which None turns a setting off. Sampling draws from PyTorch's global generator
        (`torch.manual_seed`), or from `generator`, in the order of transformers. As there, sampling keeps the 50 best
        tokens unless `top_k` says otherwise, and 20 tokens come where no length is given. A row that has ended is
        filled with `pad_token_id`, or the first end id where there is none. `stop_strings` need the `tokenizer`; the
        result ends with the token that completes one. A `logits_processor` is (ids, scores) -> scores; a stopping
        criterion (ids, scores) -> bool or (B,) bools.

        Raises RequestError, naming it, for an unknown or unsupported argument or value, and ContextLengthError, with
        the numbers, for a length beyond `max_position_embeddings`.
        """
        model = cast("ForCausalLM", self)
        settings = (generation_config or GenerationConfig()).completed(model.generation_config, kwargs)
        settings.check()
        prompt = _prompt(model, inputs, input_ids, settings)
        run = _Run(
            model=model,
            settings=settings,
            prompt_length=prompt.shape[1],
            max_length=_max_length(model, settings, prompt.shape[1]),
            processors=tuple(logits_processor or ()),
            criteria=(*(stopping_criteria or ()), *_stop_strings(settings, tokenizer)),
            streamer=streamer,
            generator=generator,
        )
        copies = _copies(settings)
        mask = _mask(prompt, attention_mask, settings)
        return run.loop(prompt.repeat_interleave(copies, dim=0), mask.repeat_interleave(copies, dim=0))


@dataclass(slots=True)
class _Run:
    model: ForCausalLM
    settings: GenerationConfig
    prompt_length: int
    max_length: int
    processors: tuple[LogitsProcessor, ...]
    criteria: tuple[StoppingCriterion, ...]
    streamer: Streamer | None
    generator: torch.Generator | None

    def loop(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Prefill, then one token of every row after another until all have ended."""
        if self.streamer is not None:
            self.streamer.put(ids.cpu())
        cache = DynamicCache(self.model.numbers) if self.settings.use_cache else None
        running = torch.ones(len(ids), dtype=torch.bool, device=ids.device)
        eos = torch.tensor(self.settings.eos_ids(), device=ids.device)
        while ids.shape[1] < self.max_length and bool(running.any()):
            scores = self._scores(ids, mask, cache)
            token = sampling.choose(scores, bool(self.settings.do_sample), self.generator)
            token = torch.where(running, token, self._pad_id())
            ids = torch.cat([ids, token[:, None]], dim=1)
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
            if self.streamer is not None:
                self.streamer.put(token.cpu())
            running = running & ~torch.isin(token, eos)
            for criterion in self.criteria:
                running = running & ~torch.as_tensor(criterion(ids, scores), device=ids.device, dtype=torch.bool)
        if self.streamer is not None:
            self.streamer.end()
        return ids

    def _scores(self, ids: torch.Tensor, mask: torch.Tensor, cache: DynamicCache | None) -> torch.Tensor:
        new = ids if cache is None else ids[:, cache.get_seq_length() :]
        output = self.model(
            new, attention_mask=mask, past_key_values=cache, use_cache=cache is not None, logits_to_keep=1
        )
        scores = output.logits[:, -1].to(torch.float32)
        penalty = self.settings.repetition_penalty
        if penalty is not None and penalty != 1.0:
            scores = sampling.penalize_repetition(scores, ids, mask, penalty)
        if ids.shape[1] < self._min_length():
            scores = sampling.forbid(scores, self.settings.eos_ids())
        for processor in self.processors:
            scores = processor(ids, scores)
        return sampling.warp(scores, self.settings) if self.settings.do_sample else scores

    def _min_length(self) -> int:
        stated = self.settings.min_new_tokens
        return (self.settings.min_length or 0) if stated is None else self.prompt_length + stated

    def _pad_id(self) -> int:
        pad = self.settings.pad_token_id
        return pad if pad is not None else next(iter(self.settings.eos_ids()), 0)


def _prompt(
    model: ForCausalLM, inputs: torch.Tensor | None, input_ids: torch.Tensor | None, settings: GenerationConfig
) -> torch.Tensor:
    if inputs is not None and input_ids is not None:
        raise RequestError("inputs and input_ids are one argument: give one.", param="input_ids")
    prompt = inputs if inputs is not None else input_ids
    if prompt is None:
        if settings.bos_token_id is None:
            raise RequestError(
                "No input_ids are given, and the model has no bos_token_id to begin with.", param="input_ids"
            )
        return torch.tensor([[settings.bos_token_id]], device=model.device)
    if not isinstance(prompt, torch.Tensor):
        raise RequestError(
            f"input_ids must be a tensor (B, T), not {type(prompt).__name__}. The result of a tokenizer is unpacked: "
            "model.generate(**inputs).",
            param="input_ids",
        )
    if prompt.dim() != 2 or prompt.is_floating_point():
        raise RequestError(
            f"input_ids must be whole numbers (B, T), not {prompt.dtype} {tuple(prompt.shape)}.", param="input_ids"
        )
    return prompt.long()


def _mask(prompt: torch.Tensor, given: torch.Tensor | None, settings: GenerationConfig) -> torch.Tensor:
    """The mask, or what HF infers: padding hidden where the pad token is in the prompt and is no end token."""
    pad = settings.pad_token_id
    if given is None:
        given = torch.ones_like(prompt) if pad is None or pad in settings.eos_ids() else prompt.ne(pad)
    if given.shape != prompt.shape:
        raise RequestError(
            f"attention_mask must have the shape of input_ids, {tuple(prompt.shape)}, not {tuple(given.shape)}.",
            param="attention_mask",
        )
    if not bool((given[:, -1] != 0).all()):
        raise RequestError(
            "The prompts are padded on the right, where the model would go on after the padding. Pad on the left: "
            'tokenizer.padding_side = "left". Where a pad token at the end is text, give the attention_mask.',
            param="attention_mask",
        )
    return given.to(prompt.device).long()


def _max_length(model: ForCausalLM, settings: GenerationConfig, prompt_length: int) -> int:
    limit = model.config.max_position_embeddings
    if settings.max_new_tokens is not None:
        wanted = prompt_length + settings.max_new_tokens
    elif settings.max_length is not None:
        wanted = settings.max_length
        if wanted <= prompt_length:
            raise RequestError(
                f"max_length is {wanted} and the prompt has {prompt_length} tokens already: use max_new_tokens.",
                param="max_length",
            )
    else:
        wanted = min(prompt_length + DEFAULT_NEW_TOKENS, max(limit, prompt_length + 1))
    if wanted > limit:
        raise ContextLengthError(prompt_length, limit, wanted - prompt_length)
    return wanted


def _copies(settings: GenerationConfig) -> int:
    copies = settings.num_return_sequences or 1
    if copies > 1 and not settings.do_sample:
        raise RequestError(
            f"num_return_sequences={copies} with do_sample=False would give the same sequence {copies} times.",
            param="num_return_sequences",
        )
    return copies


def _stop_strings(settings: GenerationConfig, tokenizer: PreTrainedTokenizer | None) -> list[StoppingCriterion]:
    if not settings.stop_strings:
        return []
    if tokenizer is None:
        raise RequestError("stop_strings need the tokenizer: generate(..., tokenizer=tokenizer).", param="tokenizer")
    return [StopStringCriteria(settings.stop_strings, tokenizer)]
