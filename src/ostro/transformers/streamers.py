"""Streamers for `generate(..., streamer=...)`: text as it comes, printed or handed to another thread."""

from __future__ import annotations

import sys
from queue import Queue
from typing import Any

import torch

from ostro.transformers.tokenization import PreTrainedTokenizer


class TextStreamer:
    """Writes the text of one row to standard output as soon as its characters are whole.

    `skip_prompt` leaves the prompt out; `skip_special_tokens` is as in `decode`.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizer, skip_prompt: bool = False, *, skip_special_tokens: bool = False
    ) -> None:
        self.tokenizer = tokenizer
        self.skip_prompt = skip_prompt
        self.skip_special_tokens = skip_special_tokens
        self._ids: list[int] = []
        self._written = 0
        self._prompt_next = True

    def put(self, value: torch.Tensor) -> None:
        """The prompt (1, T) first, then tokens (1,)."""
        ids = [int(i) for i in value.reshape(-1)]
        prompt, self._prompt_next = self._prompt_next, False
        if prompt and self.skip_prompt:
            return
        self._ids.extend(ids)
        text = self._text()
        if not text.endswith("\ufffd"):  # the rest of a character may still come
            self._flush(text, end=False)

    def end(self) -> None:
        """Write what is left."""
        self._flush(self._text(), end=True)
        self._ids, self._written, self._prompt_next = [], 0, True

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Take new text; by default it is printed."""
        sys.stdout.write(text + ("\n" if stream_end else ""))
        sys.stdout.flush()

    def _text(self) -> str:
        return self.tokenizer.decode(self._ids, skip_special_tokens=self.skip_special_tokens)

    def _flush(self, text: str, *, end: bool) -> None:
        new, self._written = text[self._written :], len(text)
        if new or end:
            self.on_finalized_text(new, stream_end=end)


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
