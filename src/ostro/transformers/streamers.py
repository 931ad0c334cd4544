"""Streamers for `generate(..., streamer=...)`: text as it comes, printed or handed to another thread."""

from __future__ import annotations

import sys
from queue import Queue
from typing import Any

import torch

from ostro.errors import RequestError
from ostro.transformers.tokenization import PreTrainedTokenizer, own_tokenizer


class TextStreamer:
    """Writes the text of one row to standard output as soon as its characters are whole.

    All that is written, joined, is the `decode` of what was put. `skip_prompt` leaves the prompt out;
    `skip_special_tokens` is as in `decode`.
    """

    _prompt_next: bool

    def __init__(
        self, tokenizer: PreTrainedTokenizer, skip_prompt: bool = False, *, skip_special_tokens: bool = False
    ) -> None:
        self.tokenizer = own_tokenizer(tokenizer)
        self.skip_prompt = skip_prompt
        self.skip_special_tokens = skip_special_tokens
        self._begin()

    def put(self, value: torch.Tensor) -> None:
        """The prompt (1, T) first, then tokens (1,); RequestError for more rows than one."""
        if value.dim() > 1 and len(value) > 1:
            raise RequestError(
                f"A TextStreamer follows one row, not {len(value)}: give one prompt, and no num_return_sequences.",
                param="streamer",
            )
        prompt, self._prompt_next = self._prompt_next, False
        if prompt and self.skip_prompt:
            return
        text = "".join(map(self._detokenizer.push, value.reshape(-1).tolist()))
        if text:
            self.on_finalized_text(text)

    def end(self) -> None:
        """Write what is left; the next that is put begins a new text."""
        rest = self._detokenizer.flush()
        self._begin()
        self.on_finalized_text(rest, stream_end=True)

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Take new text; by default it is printed."""
        sys.stdout.write(text + ("\n" if stream_end else ""))
        sys.stdout.flush()

    def _begin(self) -> None:
        self._detokenizer = self.tokenizer.detokenizer(skip_special_tokens=self.skip_special_tokens)
        self._prompt_next = True


class TextIteratorStreamer(TextStreamer):
    """Hands the text to whoever iterates over the streamer, usually another thread than `generate`'s.

    `timeout` is how many seconds to wait for the next piece; `queue.Empty` is raised after that. None waits for ever.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizer,
        skip_prompt: bool = False,
        timeout: float | None = None,
        *,
        skip_special_tokens: bool = False,
    ) -> None:
        super().__init__(tokenizer, skip_prompt, skip_special_tokens=skip_special_tokens)
        self.timeout = timeout
        self._queue: Queue[str | None] = Queue()

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Queue the text."""
        self._queue.put(text)
        if stream_end:
            self._queue.put(None)

    def __iter__(self) -> TextIteratorStreamer:
        return self

    def __next__(self) -> Any:
        text = self._queue.get(timeout=self.timeout)
        if text is None:
            raise StopIteration
        return text
