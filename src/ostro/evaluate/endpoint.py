"""`EndpointSubject`: a model behind any server of OpenAI's protocol, ostro's own among them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from functools import cached_property
from time import monotonic
from typing import Any, Self

from ostro.endpoint import Server
from ostro.engine.params import SamplingParams
from ostro.errors import RequestError, ServiceError
from ostro.evaluate.http import EvaluatedServer
from ostro.evaluate.subject import Answer, Likelihood, Question, moved_spaces, params_of_each, split_tokens

_SENT = ("temperature", "top_p", "max_tokens", "seed", "presence_penalty", "frequency_penalty")
_NOT_SENT = "the endpoint's protocol has no such field: leave it out, or load the model in this process"
_DEFAULTS = SamplingParams()


class EndpointSubject:
    """The model `model` of the server at `url` (with its /v1, if it has one), asked by up to `concurrency` threads.

    A busy or unreachable server is asked again, up to `retries` times, after 1, 2, 4, ... seconds or as long as it
    says. `timeout` is the longest silence in seconds. The key is sent and never written anywhere.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        api_key: str | None = None,
        concurrency: int = 4,
        timeout: float = 600.0,
        retries: int = 5,
        first_pause: float = 1.0,
    ) -> None:
        self.name = model
        self.batch_size = concurrency
        self._server = Server(url, api_key)
        self._connection = EvaluatedServer(self._server, timeout=timeout, retries=retries, first_pause=first_pause)
        self._has_tokenizer: bool | None = None
        self._max_model_len: int | None = None

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def max_model_len(self) -> int | None:
        """Most tokens of question and answer together, where the server has `/tokenize` and tells it."""
        self.count_tokens("")
        return self._max_model_len

    def describe(self) -> dict[str, Any]:
        """The address and the model; a server does not say what its weights are."""
        return {"kind": "endpoint", "url": self._server.address, "model": self.name}

    def generate(
        self, questions: Sequence[Question], params: SamplingParams | Sequence[SamplingParams]
    ) -> list[Answer]:
        """As `Subject.generate`; a text goes to /completions, a conversation to /chat/completions."""
        each = [self._body(*pair) for pair in zip(questions, params_of_each(params, len(questions)), strict=True)]
        return self._side_by_side(self._answer, each)

    def stream(
        self, question: Question, params: SamplingParams, on_text: Callable[[str], None] | None = None
    ) -> Answer:
        """As `Subject.stream`. Counts of tokens are the server's, None where it does not send them with a stream."""
        path, body = self._body(question, params_of_each(params, 1)[0])
        began = monotonic()
        gathered = _Gathered(began, on_text)
        streaming = {**body, "stream": True, "stream_options": {"include_usage": True}}
        for chunk in self._connection.events(path, streaming):
            gathered.add(chunk)
        return gathered.answer()

    def loglikelihood(self, pairs: Sequence[tuple[str, str]]) -> list[Likelihood]:
        """As `Subject.loglikelihood`; ServiceError for a server that gives no log-probabilities of a prompt.

        It needs /completions with `echo` and `logprobs` together, as ostro's own server and vLLM have it. Without
        /tokenize the continuation has the tokens that begin in its text.
        """
        return self._side_by_side(self._likelihood, [moved_spaces(*pair) for pair in pairs])

    def encode(self, text: str) -> list[int]:
        """As `Subject.encode`; ServiceError where the server has no `/tokenize`."""
        return self._certain_ids(text, adds_bos=False)

    def begin(self) -> list[int]:
        """As `Subject.begin`: what the server's `/tokenize` puts in front of a text."""
        return self._certain_ids("", adds_bos=True)

    def decode(self, token_ids: Sequence[int]) -> str:
        """As `Subject.decode`, by the server's `/detokenize`."""
        answer = self._connection.beside("/detokenize", {"model": self.name, "tokens": list(token_ids)})
        text = answer.get("prompt") if isinstance(answer, Mapping) else None
        if not isinstance(text, str):
            raise ServiceError(self._no_way("the text of token ids"))
        return text

    def count_bytes(self, token_ids: Sequence[int]) -> int:
        """As `Subject.count_bytes`, by `decode`: a character that is cut at an end counts as three bytes.

        A token stands before them, because SentencePiece takes the space from the front of a text.
        """
        before, num_bytes = self._letter
        return len(self.decode([*before, *token_ids]).encode()) - num_bytes

    @cached_property
    def _letter(self) -> tuple[list[int], int]:
        """The token of a letter, and its bytes at the front of a text."""
        ids = self.encode("a")[-1:]
        return ids, len(self.decode(ids).encode())

    def token_logprobs(self, token_ids: Sequence[int]) -> list[float]:
        """As `Subject.token_logprobs`; it needs what `loglikelihood` needs."""
        rows = self._echoed(list(token_ids))
        values = rows.get("token_logprobs") or []
        if len(values) < len(token_ids) or None in values[1 : len(token_ids)]:
            raise ServiceError(f"{self._no_way('log-probabilities of a prompt')} Its answer has none.")
        return [float(value) for value in values[1 : len(token_ids)]]

    def count_tokens(self, text: str) -> int | None:
        """As `Subject.count_tokens`, by the server's `/tokenize`; None where it has none."""
        ids = self._tokenized(text)
        return None if ids is None else len(ids)

    def _side_by_side(self, work: Callable[[Any], Any], each: Sequence[Any]) -> list[Any]:
        if len(each) < 2:
            return [work(one) for one in each]
        with ThreadPoolExecutor(self.batch_size) as pool:
            futures = [pool.submit(work, one) for one in each]
            try:
                return [future.result() for future in futures]
            except BaseException:
                for future in futures:
                    future.cancel()
                raise

    def _body(self, question: Question, params: SamplingParams) -> tuple[str, dict[str, Any]]:
        body: dict[str, Any] = {"model": self.name, **_fields(params)}
        if isinstance(question, str):
            return "/completions", body | {"prompt": question}
        return "/chat/completions", body | {"messages": list(question)}

    def _answer(self, asked: tuple[str, dict[str, Any]]) -> Answer:
        began = monotonic()
        body = self._connection.post(*asked)
        try:
            choice, usage = body["choices"][0], body.get("usage") or {}
            text = choice["text"] if "text" in choice else choice["message"]["content"]
            return Answer(
                text or "", choice.get("finish_reason"), _count(usage, "prompt_tokens"),
                _count(usage, "completion_tokens"), monotonic() - began,
            )  # fmt: skip
        except (TypeError, KeyError, IndexError, AttributeError):
            raise ServiceError(f"{self._server.name} answered with something that is no completion.") from None

    def _likelihood(self, pair: tuple[str, str]) -> Likelihood:
        context, continuation = pair
        if self._tokenized("") is None:
            begin, end = len(context), len(context) + len(continuation)
            return self._read_likelihood(
                self._echoed(context + continuation), lambda rows, i: begin <= rows["text_offset"][i] < end
            )
        before, scored = split_tokens(self.encode, context, continuation)
        before = [*self.begin(), *before]
        if not before:
            raise ServiceError(f"{self.name} begins no text with BOS, so nothing stands before an empty context.")
        first, end = len(before), len(before) + len(scored)
        return self._read_likelihood(self._echoed([*before, *scored]), lambda _, i: first <= i < end)

    def _echoed(self, prompt: str | list[int]) -> Mapping[str, Any]:
        """The log-probabilities of a prompt and of one token behind it; {} where the answer has none."""
        body = {"model": self.name, "prompt": prompt, "temperature": 0, "max_tokens": 1, "logprobs": 1, "echo": True}
        try:
            answer = self._connection.post("/completions", body)
        except ServiceError as refused:
            raise ServiceError(f"{self._no_way('log-probabilities of a prompt')} {refused}") from None
        try:
            rows = answer["choices"][0]["logprobs"]
        except (TypeError, KeyError, IndexError):
            return {}
        return rows if isinstance(rows, Mapping) else {}

    def _read_likelihood(
        self, rows: Mapping[str, Any], is_scored: Callable[[Mapping[str, Any], int], bool]
    ) -> Likelihood:
        """Of the tokens, by their place, that are scored."""
        try:
            likeliest = rows.get("top_logprobs") or [None] * len(rows["tokens"])
            # BOS stands where the text begins, and has neither text nor log-probability.
            known = [i for i, token in enumerate(rows["tokens"]) if rows["token_logprobs"][i] is not None or token]
            places = [i for i in known if is_scored(rows, i)]
            values = [float(rows["token_logprobs"][i]) for i in places]
            greedy = [bool(likeliest[i]) and max(likeliest[i].values()) <= rows["token_logprobs"][i] for i in places]
        except (TypeError, KeyError, IndexError, AttributeError, ValueError):
            places, values, greedy = [], [], []
        if not places:
            raise ServiceError(f"{self._no_way('log-probabilities of a prompt')} Its answer has none.")
        return Likelihood(sum(values), len(places), all(greedy))

    def _no_way(self, what: str) -> str:
        return (
            f"{self._server.name} does not give {what}, which this evaluation needs: run it on the model "
            "itself, without --endpoint."
        )

    def _certain_ids(self, text: str, *, adds_bos: bool) -> list[int]:
        ids = self._tokenized(text, adds_bos=adds_bos)
        if ids is None:
            raise ServiceError(f"{self._no_way('token ids of a text')} It has no /tokenize.")
        return ids

    def _tokenized(self, text: str, *, adds_bos: bool = False) -> list[int] | None:
        """By the server's /tokenize, which stands beside /v1; None, for ever after, where there is none.

        A text that has tokens tells whether there is: llama.cpp's server, whose /tokenize has another form, finds none.
        """
        if self._has_tokenizer is None:
            self._has_tokenizer = bool(self._ids_of("a", adds_bos=False))
        if not self._has_tokenizer:
            return None
        ids = self._ids_of(text, adds_bos=adds_bos)
        if ids is None:
            raise ServiceError(f"{self._server.name} has a /tokenize and gives no token ids of {text[:40]!r}.")
        return ids

    def _ids_of(self, text: str, *, adds_bos: bool) -> list[int] | None:
        body = {"model": self.name, "prompt": text, "add_special_tokens": adds_bos}
        answer = self._connection.beside("/tokenize", body)
        if not isinstance(answer, Mapping):
            return None
        if isinstance(answer.get("max_model_len"), int):
            self._max_model_len = answer["max_model_len"]
        ids = answer.get("tokens")
        return ids if isinstance(ids, list) and all(isinstance(each, int) for each in ids) else None


class _Gathered:
    """The pieces of a stream and when they came."""

    def __init__(self, began: float, on_text: Callable[[str], None] | None) -> None:
        self._began = began
        self._on_text = on_text
        self._pieces: list[str] = []
        self._times: list[float] = []
        self._finish: str | None = None
        self._usage: Mapping[str, Any] = {}

    def add(self, chunk: Mapping[str, Any]) -> None:
        usage = chunk.get("usage")
        self._usage = usage if isinstance(usage, Mapping) else self._usage
        for choice in chunk.get("choices") or ():
            self._finish = choice.get("finish_reason") or self._finish
            text = choice["text"] if "text" in choice else (choice.get("delta") or {}).get("content")
            if isinstance(text, str) and text:
                self._pieces.append(text)
                self._times.append(monotonic() - self._began)
                if self._on_text is not None:
                    self._on_text(text)

    def answer(self) -> Answer:
        first = self._times[0] if self._times else None
        counts = _count(self._usage, "prompt_tokens"), _count(self._usage, "completion_tokens")
        return Answer(
            "".join(self._pieces), self._finish, *counts, monotonic() - self._began, first, tuple(self._times)
        )


def _fields(params: SamplingParams) -> dict[str, Any]:
    """The fields of the request; RequestError for a parameter that OpenAI's protocol does not have."""
    for field in fields(params):
        value = getattr(params, field.name)
        if field.name not in (*_SENT, "stop") and value != getattr(_DEFAULTS, field.name):
            raise RequestError(f"{field.name} cannot be {value!r}: {_NOT_SENT}.", param=field.name)
    body = {name: getattr(params, name) for name in _SENT if getattr(params, name) is not None}
    for name in ("presence_penalty", "frequency_penalty"):
        if not body[name]:
            del body[name]  # servers without them would refuse them
    return body | ({"stop": list(params.stop_strings)} if params.stop_strings else {})


def _count(usage: Mapping[str, Any], name: str) -> int | None:
    value = usage.get(name)
    return value if isinstance(value, int) else None
