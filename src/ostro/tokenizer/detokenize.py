"""Ids to text, token by token: what is given out is final and never a part of a character."""

from __future__ import annotations

import codecs

from ostro.tokenizer.base import Tokenizer


class StreamDetokenizer:
    """Decodes ids as they come; all that `push` and `flush` return, joined, is the decoding of the whole.

    At most three bytes are held back: the beginning of a UTF-8 sequence that a later token may complete. Bytes that can
    never become a character are given out as U+FFFD at once, one for each that Python's decoder with errors="replace"
    gives (SentencePiece's own decoder gives one for each byte).

    A control token ends a run of text: it stands for nothing, unless it is in `visible_control`, which stands for its
    name; and bytes on its two sides never make one character. Mistral's and Meta's decoders do the same.

    `at_start`: the text begins a message, so the space that begins the first text token is SentencePiece's dummy
    prefix and is dropped. Control tokens before it change nothing, and after it no space is dropped, not even that of
    a text token behind a control token; this is what SentencePiece's decoder does with a whole sequence. With
    `at_start=False` (the text continues a prompt) every space is kept. It has no effect where `tokenizer.dummy_prefix`
    is False.

        >>> from ostro.tokenizer.mistral import bundled
        >>> stream = StreamDetokenizer(bundled("v1"), at_start=True)
        >>> [stream.push(i) for i in (28705, 243, 162, 156, 142)] + [stream.flush()]
        ['', '', '', '', '🙋', '']
    """

    def __init__(self, tokenizer: Tokenizer, *, at_start: bool, visible_control: frozenset[int] = frozenset()) -> None:
        self._tokenizer = tokenizer
        self._visible_control = visible_control
        self._drop_space = at_start and tokenizer.dummy_prefix
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token_id: int) -> str:
        """The text that is final with this token, sometimes none; TokenizerError for an id outside the vocabulary."""
        if self._tokenizer.is_control(token_id):
            return self.flush() + self._visible(token_id)
        data = self._tokenizer.token_bytes(token_id)
        if self._drop_space and data:
            # A byte token that is a space is text; only a piece spelt with U+2581 carries the dummy prefix.
            # A token of nothing but that prefix leaves no text, and so the next may not lose its own: it is spent.
            if self._tokenizer.piece(token_id).startswith("▁"):
                data = data[1:]
            self._drop_space = False
        return self._utf8.decode(data)

    def flush(self) -> str:
        """The rest: U+FFFD if the last token left a character incomplete, else nothing. The object may be used on."""
        return self._utf8.decode(b"", final=True)

    def _visible(self, token_id: int) -> str:
        if token_id not in self._visible_control:
            return ""
        self._drop_space = False
        return self._tokenizer.piece(token_id)
