"""The part that all tokenizers share: a table of tokens with what follows from it, around an encoder of plain text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Protocol

from ostro.errors import TokenizerError
from ostro.tokenizer.base import TokenizerKind
from ostro.tokenizer.detokenize import StreamDetokenizer

SPACE = "▁"
"""U+2581, which SentencePiece writes for a space."""

BOS_NAMES = ("<s>", "<|begin_of_text|>")
EOS_NAMES = ("</s>", "<|end_of_text|>")

_BYTE_PIECE = re.compile(r"<0x([0-9A-F]{2})>")
_LOOKS_LIKE_CONTROL = re.compile(r"<\|[^<>|]*\|>")


def looks_like_control(piece: str) -> bool:
    """Whether a token's text is of the form <|name|>.

    Some fine-tunes forget to flag such tokens as special. No text of a user may produce them all the same.
    """
    return piece.startswith("<|") and _LOOKS_LIKE_CONTROL.fullmatch(piece) is not None


def byte_piece(value: int) -> str:
    """SentencePiece's name of a byte: "<0xE1>"."""
    return f"<0x{value:02X}>"


def spm_bytes(piece: str) -> bytes:
    """The bytes of a SentencePiece token in running text: of a byte token its byte, else its text with real spaces."""
    if match := _BYTE_PIECE.fullmatch(piece):
        return bytes.fromhex(match[1])
    return piece.replace(SPACE, " ").encode()


def readable(data: bytes) -> str:
    """A byte-level token as a person may read it: its text, a byte that is no part of a character as <0xE1>."""
    text = data.decode(errors="surrogateescape")
    return "".join(byte_piece(ord(char) - 0xDC00) if "\udc80" <= char <= "\udcff" else char for char in text)


@contextmanager
def malformed_is_refused(source: str) -> Iterator[None]:
    """Turn what Python says of a value of the wrong shape, in data that came from a file, into a TokenizerError."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise TokenizerError(
            f"{source}: the description of the vocabulary is malformed ({type(error).__name__}: {str(error)[:200]}). "
            "The file is damaged; fetch it again."
        ) from error


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """A table of tokens. `pieces[i]` is token i as a person may read it, `token_bytes[i]` what it stands for in text.

    `control` holds the ids that are no text: they are never encoded from text and decode to nothing. The other fields
    are those of `ostro.tokenizer.base.Tokenizer`.
    """

    kind: TokenizerKind
    source: str
    pieces: Sequence[str]
    token_bytes: Sequence[bytes]
    control: frozenset[int]
    bos_id: int | None
    eos_id: int | None
    version: str | None = None
    chat_template: str | None = None
    dummy_prefix: bool = False
    adds_bos: bool = True

    def __post_init__(self) -> None:
        """Refuse ids outside the table."""
        named = {"bos_id": self.bos_id, "eos_id": self.eos_id}
        for name, token_id in named.items():
            if token_id is not None and not 0 <= token_id < len(self.pieces):
                raise TokenizerError(
                    f"{self.source}: {name} is {token_id}, but the vocabulary has ids 0 to {len(self.pieces) - 1}. "
                    "The file is damaged or was made from two different models; fetch it again."
                )


class Encoder(Protocol):
    """Text to ids, special parsing off."""

    def encode(self, text: str, *, continuation: bool) -> list[int]:
        """Ids of valid Unicode text, with SentencePiece's dummy space in front unless `continuation`."""


class VocabularyTokenizer:
    """`ostro.tokenizer.base.Tokenizer` over a `Vocabulary` and an `Encoder`. Thread-safe if the encoder is."""

    def __init__(self, vocabulary: Vocabulary, encoder: Encoder) -> None:
        self._vocabulary = vocabulary
        self._encoder = encoder
        pieces = vocabulary.pieces
        self._control_tokens = MappingProxyType({pieces[i]: i for i in sorted(vocabulary.control, reverse=True)})

    @property
    def kind(self) -> TokenizerKind:
        """The algorithm."""
        return self._vocabulary.kind

    @property
    def version(self) -> str | None:
        """Mistral's prompt version, or None."""
        return self._vocabulary.version

    @property
    def source(self) -> str:
        """The file that the vocabulary came from."""
        return self._vocabulary.source

    @property
    def vocab_size(self) -> int:
        """Ids are below this."""
        return len(self._vocabulary.pieces)

    @property
    def bos_id(self) -> int | None:
        """Beginning of a sequence."""
        return self._vocabulary.bos_id

    @property
    def eos_id(self) -> int | None:
        """End of a sequence."""
        return self._vocabulary.eos_id

    @property
    def adds_bos(self) -> bool:
        """Whether a plain text is to begin with BOS."""
        return self._vocabulary.adds_bos and self._vocabulary.bos_id is not None

    @property
    def control_tokens(self) -> Mapping[str, int]:
        """Every control token by its name; of two with one name the lower id."""
        return self._control_tokens

    @property
    def dummy_prefix(self) -> bool:
        """Whether `encode` puts a dummy space in front."""
        return self._vocabulary.dummy_prefix

    @property
    def chat_template(self) -> str | None:
        """The checkpoint's own Jinja template."""
        return self._vocabulary.chat_template

    def control_id(self, name: str) -> int:
        """The id of a control token; TokenizerError if there is none of this name."""
        try:
            return self._control_tokens[name]
        except KeyError:
            raise TokenizerError(
                f"The vocabulary of {self.source} has no control token {name!r}; it has {self._some_control_tokens()}. "
                "Use a prompt format that fits this checkpoint."
            ) from None

    def is_control(self, token_id: int) -> bool:
        """Whether the id is a control token."""
        return token_id in self._vocabulary.control

    def encode(self, text: str) -> list[int]:
        """Ids of plain text; no BOS, no EOS, never a control token."""
        return self._encoder.encode(self._valid(text), continuation=False)

    def encode_continuation(self, text: str) -> list[int]:
        """As `encode`, without SentencePiece's dummy space in front."""
        return self._encoder.encode(self._valid(text), continuation=True)

    def encode_with_control(self, text: str) -> list[int]:
        """Ids of a rendered template in which control tokens stand as text.

        SentencePiece's dummy space goes in front only if the text begins with no control token.
        """
        ids: list[int] = []
        for position, part in enumerate(self._control_pattern.split(self._valid(text))):
            if position % 2:
                ids.append(self._control_tokens[part])
            elif part:
                ids += self._encoder.encode(part, continuation=bool(ids))
        return ids

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that the token stands for in running text; b"" for control tokens."""
        return self._vocabulary.token_bytes[self._checked(token_id)]

    def piece(self, token_id: int) -> str:
        """The token as a person may read it."""
        return self._vocabulary.pieces[self._checked(token_id)]

    def decode(self, ids: Sequence[int], *, keep_control: bool = False) -> str:
        """Text of ids; SentencePiece's dummy space at the start is dropped, invalid bytes become U+FFFD."""
        visible = self._vocabulary.control if keep_control else frozenset()
        stream = StreamDetokenizer(self, at_start=True, visible_control=visible)
        return "".join(map(stream.push, ids)) + stream.flush()

    def __repr__(self) -> str:
        """One line for logs and the debugger."""
        return f"<{type(self).__name__} {self.version or self.kind}, {self.vocab_size} tokens, from {self.source}>"

    @cached_property
    def _control_pattern(self) -> re.Pattern[str]:
        names = sorted(filter(None, self._control_tokens), key=len, reverse=True)
        return re.compile(f"({'|'.join(map(re.escape, names))})" if names else r"((?!))")

    def _checked(self, token_id: int) -> int:
        if not 0 <= token_id < self.vocab_size:
            raise TokenizerError(
                f"Token id {token_id} is outside the vocabulary of {self.source}, which has ids 0 to "
                f"{self.vocab_size - 1}. Use the tokenizer of the model that made the ids."
            )
        return token_id

    def _valid(self, text: str) -> str:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise TokenizerError(
                f"The text has a lone surrogate, U+{ord(text[error.start]):04X}, at character {error.start}. "
                "It is no valid Unicode text: decode its bytes as UTF-8 with errors='replace' before."
            ) from None
        return text

    def _some_control_tokens(self) -> str:
        names = list(self._control_tokens)[::-1]
        return ", ".join(map(repr, names[:12])) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
