"""`LLM`: a model from any form on disk, ready to generate, chat, stream and score."""

from __future__ import annotations

import datetime
import itertools
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ostro.chat.render import ChatFormat, render_chat
from ostro.chat.segments import Prompt
from ostro.checkpoint.open import Checkpoint, open_checkpoint
from ostro.config import ModelConfig
from ostro.engine.config import EngineConfig
from ostro.engine.core import EngineCore
from ostro.engine.outputs import RequestOutput
from ostro.engine.params import SamplingParams
from ostro.engine.stream import Pieces, StreamChunk
from ostro.errors import CheckpointError, RequestError, TokenizerNotFoundError
from ostro.models.load import load_weights
from ostro.ops import get_ops
from ostro.tokenizer.base import Tokenizer

PromptLike: TypeAlias = str | Sequence[int] | Prompt
"""Text (BOS is put in front), token ids (taken as they are), or a rendered conversation."""
Messages: TypeAlias = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class ScoreOutput:
    """Log-probabilities (natural) of `token_ids`, each given all that stands before it."""

    token_ids: list[int]
    logprobs: list[float]

    @property
    def total(self) -> float:
        """Log-probability of all of them together."""
        return float(np.sum(np.asarray(self.logprobs, dtype=np.float64)))


class LLM:
    """A Mistral or Llama model.

    `model` is a folder, a GGUF file, a hub id or a short name (`ostro list`); the last two are downloaded if needed,
    at `revision`, into `cache_dir`, or with `offline` taken from what is there.

    `backend` is "cpu", "reference", "torch", or "auto" (the first of them that is here); `num_threads` is the cpu
    backend's, `device` torch's. `dtype` "auto" keeps weights as their files store them. `kv_dtype` "auto" is float32
    for float32 weights, bfloat16 for bfloat16 ones and float16 for all others.

    `max_model_len` bounds prompt and answer together: by default the model's context, or what the K/V cache holds.
    `kv_cache_bytes` bounds that cache: by default half of the memory that is left. At most `max_num_seqs` answers are
    computed side by side, and `max_num_batched_tokens` tokens in one step: longer prompts are cut into chunks.

    The methods may be called from several threads; their requests then share the steps.

        llm = LLM("mistralai/Mistral-7B-Instruct-v0.3")
        llm.generate("Once upon a time", SamplingParams(max_tokens=8))[0].outputs[0].text

    Raises ModelNotFoundError, CheckpointError, ConfigError, TokenizerError or BackendError if it cannot be loaded.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        backend: str = "auto",
        dtype: str = "auto",
        kv_dtype: str = "auto",
        num_threads: int | None = None,
        device: str | None = None,
        max_model_len: int | None = None,
        max_num_seqs: int = 16,
        max_num_batched_tokens: int = 512,
        block_size: int = 16,
        kv_cache_bytes: int | None = None,
        enable_prefix_caching: bool = True,
        revision: str | None = None,
        offline: bool = False,
        cache_dir: str | Path | None = None,
    ) -> None:
        from ostro.checkpoint.hub import resolve

        self.path = resolve(model, revision=revision, offline=offline, cache_dir=cache_dir)
        checkpoint = open_checkpoint(self.path)
        self.config: ModelConfig = checkpoint.config
        options = {"num_threads": num_threads, "device": device}
        ops = get_ops(backend, **{name: value for name, value in options.items() if value is not None})
        self.backend = ops.name
        self._tokenizer = _load_tokenizer(checkpoint, self.path)
        self._engine = EngineCore(
            ops,
            self.config,
            load_weights(ops, self.config, checkpoint.tensors, dtype=dtype),
            tokenizer=self._tokenizer,
            engine_config=EngineConfig(
                block_size=block_size,
                kv_cache_bytes=kv_cache_bytes,
                kv_dtype=_kv_dtype(checkpoint, dtype) if kv_dtype == "auto" else kv_dtype,
                max_num_seqs=max_num_seqs,
                max_num_batched_tokens=max_num_batched_tokens,
                max_model_len=max_model_len,
                enable_prefix_caching=enable_prefix_caching,
            ),
            weight_bytes=sum(path.stat().st_size for path in checkpoint.files) if dtype == "auto" else 0,
        )
        self._lock = threading.RLock()
        self._inbox: dict[str, deque[RequestOutput]] = {}
        self._ids = itertools.count()

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer; TokenizerNotFoundError where the checkpoint has none."""
        if self._tokenizer is None:
            raise TokenizerNotFoundError(
                f"{self.path} has no tokenizer, so text cannot be read: give prompts as token ids, or put the model's "
                "tokenizer files into the folder."
            )
        return self._tokenizer

    @property
    def max_model_len(self) -> int:
        """Most tokens of prompt and answer together."""
        return self._engine.max_model_len

    @property
    def kv_cache_bytes(self) -> int:
        """Bytes of the K/V cache when all of it is in use."""
        return self._engine.kv_cache_bytes

    def generate(
        self,
        prompts: PromptLike | Sequence[PromptLike],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
    ) -> list[RequestOutput]:
        """Answers to one prompt or many, computed side by side, in the order of the prompts.

        One `SamplingParams` serves all prompts; a list has one for each. None is `SamplingParams()`.
        RequestError (ContextLengthError) for a prompt that cannot be run; nothing is then left running.
        """
        batch = _batch(prompts)
        params = self._params(sampling_params, len(batch))
        running: list[str] = []
        try:
            for prompt, each in zip(batch, params, strict=True):
                running.append(self._add(prompt, each))
            return [self._last(request_id) for request_id in running]
        finally:
            self._drop(running)

    def stream(self, prompt: PromptLike, sampling_params: SamplingParams | None = None) -> Stream:
        """The answer in pieces, as they become certain. Closing the iterator stops the computation.

        What is wrong with the request is raised here, before the first piece is asked for.
        """
        return Stream(self, prompt, sampling_params or SamplingParams())

    def chat(
        self, messages: Messages, sampling_params: SamplingParams | None = None, **rendering: Any
    ) -> RequestOutput:
        """The answer to a conversation of `{"role": ..., "content": ...}` messages. `rendering` is that of `render`."""
        return self.generate(self.render(messages, **rendering), sampling_params)[0]

    def stream_chat(
        self, messages: Messages, sampling_params: SamplingParams | None = None, **rendering: Any
    ) -> Stream:
        """As `chat`, in pieces as `stream` gives them."""
        return self.stream(self.render(messages, **rendering), sampling_params)

    def render(
        self,
        messages: Messages,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        format: ChatFormat | str | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        safe_prompt: bool = False,
        strict: bool = False,
        today: datetime.date | None = None,
        builtin_tools: Sequence[str] = (),
    ) -> Prompt:
        """The prompt that `chat` would run, as segments of ids: `.token_ids`, `.text`, `.provenance`.

        The arguments are those of `ostro.chat.render.render_chat`. PromptError names the message at fault.
        """
        return render_chat(
            self.tokenizer,
            messages,
            tools=tools,
            format=format,
            family=self.config.family,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=continue_final_message,
            safe_prompt=safe_prompt,
            strict=strict,
            today=today,
            builtin_tools=builtin_tools,
        )

    def logits(self, prompt: PromptLike) -> npt.NDArray[np.float32]:
        """The model's scores for the token after each token of the prompt: float32 (T, vocab_size)."""
        with self._lock:
            return self._engine.logits(self._encode(prompt))

    def score(self, prompt: PromptLike, continuation: str | Sequence[int] | None = None) -> ScoreOutput:
        """Log-probabilities of a continuation given the prompt; without one, of the prompt's tokens but the first."""
        ids = self._encode(prompt)
        first = 1 if continuation is None else len(ids)
        if isinstance(continuation, str):
            ids += self.tokenizer.encode_continuation(continuation)
        elif continuation is not None:
            ids += [int(token_id) for token_id in continuation]
        with self._lock:
            logprobs = self._engine.score(ids)
        return ScoreOutput(ids[first:], [float(value) for value in logprobs[first - 1 :]])

    def reset_prefix_cache(self) -> None:
        """Forget the prompts that are kept for reuse."""
        with self._lock:
            self._engine.reset_prefix_cache()

    def _encode(self, prompt: PromptLike) -> list[int]:
        if isinstance(prompt, Prompt):
            return list(prompt.token_ids)
        if isinstance(prompt, str):
            bos = self.tokenizer.bos_id
            return [*([] if bos is None else [bos]), *self.tokenizer.encode(prompt)]
        return [int(token_id) for token_id in prompt]

    def _params(self, params: SamplingParams | Sequence[SamplingParams] | None, count: int) -> Sequence[SamplingParams]:
        if params is None or isinstance(params, SamplingParams):
            return [params or SamplingParams()] * count
        if len(params) != count:
            raise RequestError(
                f"{len(params)} sampling_params are given for {count} prompts: give one, or one for each prompt.",
                param="sampling_params",
            )
        return params

    def _add(self, prompt: PromptLike, params: SamplingParams) -> str:
        rendered = prompt if isinstance(prompt, Prompt) else None
        ids = self._encode(prompt)
        with self._lock:
            request_id = str(next(self._ids))
            self._engine.add_request(
                request_id,
                ids,
                params,
                prompt=prompt if isinstance(prompt, str) else rendered.text if rendered else None,
                # An answer begins its message unless it goes on with one that the caller began.
                at_start=None if rendered is None else not rendered.segments[-1].is_completion,
                eos_token_ids=() if rendered is None else rendered.stop_ids,
            )
            self._inbox[request_id] = deque()
        return request_id

    def _outputs(self, request_id: str) -> Iterator[RequestOutput]:
        """Every output of a request; whoever waits for one takes the next step for all."""
        inbox = self._inbox[request_id]
        while True:
            with self._lock:
                if request_id not in self._inbox:
                    return  # closed by another thread
                if not inbox:
                    self._step()
                    continue
                output = inbox.popleft()
            yield output
            if output.finished:
                return

    def _step(self) -> None:
        assert self._engine.has_unfinished
        for output in self._engine.step():
            # An answer that nobody waits for any more was dropped in between.
            if output.request_id in self._inbox:
                self._inbox[output.request_id].append(output)

    def _last(self, request_id: str) -> RequestOutput:
        *_, last = self._outputs(request_id)
        return last

    def _drop(self, request_ids: Sequence[str]) -> None:
        with self._lock:
            for request_id in request_ids:
                self._engine.abort(request_id)
                self._inbox.pop(request_id, None)


class Stream(Iterator[StreamChunk]):
    """The pieces of a running answer. `close` (or the end of a `with` block, or dropping it) stops the computation."""

    def __init__(self, llm: LLM, prompt: PromptLike, params: SamplingParams) -> None:
        self._llm = llm
        self._request_id = llm._add(prompt, params)
        self._outputs = llm._outputs(self._request_id)
        self._ready: deque[StreamChunk] = deque()
        self._pieces = Pieces()
        self.output: RequestOutput | None = None
        """The whole request as it stood at the last piece."""

    def __next__(self) -> StreamChunk:
        while not self._ready:
            try:
                self.output = next(self._outputs)
            except BaseException:
                self.close()
                raise
            self._ready.extend(self._pieces.of(self.output))
        return self._ready.popleft()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Stop the computation and free its place; harmless where it has ended."""
        if hasattr(self, "_request_id"):
            self._llm._drop([self._request_id])


def _batch(prompts: PromptLike | Sequence[PromptLike]) -> list[PromptLike]:
    """The prompts as a list; a sequence of integers is one prompt."""
    if isinstance(prompts, str | Prompt):
        return [prompts]
    many: list[PromptLike] = []
    ids: list[int] = []
    for each in prompts:
        if isinstance(each, int | np.integer):
            ids.append(int(each))
        else:
            many.append(each)
    if ids and many:
        raise RequestError(
            "A list of prompts holds texts or lists of token ids; single ids are between them.", param="prompts"
        )
    return [ids] if ids else many


def _load_tokenizer(checkpoint: Checkpoint, path: Path) -> Tokenizer | None:
    """The tokenizer, or None for a folder without one; CheckpointError where it has more tokens than the model."""
    from ostro.tokenizer.load import load_tokenizer

    try:
        if checkpoint.gguf_metadata is not None:
            tokenizer = load_tokenizer(gguf_metadata=checkpoint.gguf_metadata, source=str(path))
        else:
            tokenizer = load_tokenizer(checkpoint.folder)
    except TokenizerNotFoundError:
        return None
    if tokenizer.vocab_size > checkpoint.config.vocab_size:
        raise CheckpointError(
            f"{tokenizer.source} has {tokenizer.vocab_size} tokens, but the model's vocab_size is "
            f"{checkpoint.config.vocab_size}: the tokenizer is of another model. Download both again."
        )
    return tokenizer


def _kv_dtype(checkpoint: Checkpoint, dtype: str) -> str:
    """Of float weights their own type; float16, which is the more exact of the two, for packed ones."""
    stored = dtype if dtype != "auto" else str(getattr(checkpoint.tensors["model.embed_tokens.weight"], "dtype", ""))
    return stored if stored in ("float32", "bfloat16") else "float16"
