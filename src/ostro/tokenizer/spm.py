"""SentencePiece: a `tokenizer.model`, or the same model written anew from the pieces and scores of a GGUF file.

The merging itself is done by the `sentencepiece` library, so a vocabulary encodes the same from either file.
"""

from __future__ import annotations

import re
import struct
import threading
from collections.abc import Iterable, Mapping
from typing import Any

from ostro.errors import TokenizerError
from ostro.tokenizer.vocabulary import SPACE, VocabularyTokenizer

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
"""Types of a piece; the same numbers in SentencePiece's own file and in `tokenizer.ggml.token_type`."""

# Protocol buffers merge a message that is given twice, field by field: a serialized model followed by these bytes is
# the same model with normalizer_spec.add_dummy_prefix = false.
_NO_DUMMY_PREFIX = b"\x1a\x02\x18\x00"

# A user-defined piece: field 1 (length and text), field 2 (a float32), field 3 (the type).
_USER_DEFINED_CONTROL = re.compile(rb"\n.<\|[^<>|]*\|>\x15....\x18\x04", re.DOTALL)

PROBE = "a"


class SentencePieceEncoder:
    """Encodes with two processors of one model: with the dummy prefix, and (loaded when first needed) without."""

    def __init__(self, model: bytes, source: str) -> None:
        self._model = model
        self._source = source
        self.processor = load_processor(model, source)
        self._without_prefix: Any = None
        self._lock = threading.Lock()

    @property
    def dummy_prefix(self) -> bool:
        """Whether the model puts a space before the text."""
        pieces: list[str] = self.processor.encode(PROBE, out_type=str)
        return pieces[0].startswith(SPACE)

    def encode(self, text: str, *, continuation: bool) -> list[int]:
        """Ids of text; control pieces are never matched, as SentencePiece knows them by id only."""
        processor = self._continuation_processor() if continuation else self.processor
        ids: list[int] = processor.encode(text, out_type=int)
        return ids

    def _continuation_processor(self) -> Any:
        with self._lock:
            if self._without_prefix is None:
                self._without_prefix = load_processor(self._model + _NO_DUMMY_PREFIX, self._source)
            return self._without_prefix


class SentencePieceTokenizer(VocabularyTokenizer):
    """kind "spm". What `decode(encode(text))` does not give back: U+2581 comes back as the space that it stands for."""


def load_processor(model: bytes, source: str) -> Any:
    """A SentencePieceProcessor of a serialized model with byte fallback; TokenizerError if it is none."""
    from sentencepiece import SentencePieceProcessor

    try:
        processor = SentencePieceProcessor(model_proto=model) if model else None
    except (RuntimeError, ValueError, OSError) as error:
        detail = str(error).strip().splitlines()
        raise _damaged(source, detail[-1] if detail else type(error).__name__) from None
    if processor is None or processor.vocab_size() == 0:
        raise _damaged(source, "it is empty")
    num_bytes = sum(processor.is_byte(i) for i in range(processor.vocab_size()))
    if num_bytes != 256:
        raise TokenizerError(
            f"{source}: the vocabulary has {num_bytes} byte tokens, and only SentencePiece models with byte fallback "
            "(256 of them) can express every text. Use the tokenizer of a Mistral or Llama model."
        )
    return processor


def extend_model(model: bytes, added: Mapping[str, int], source: str) -> bytes:
    """A serialized model with control pieces added behind its own; ids that it has already are left alone.

    As with the normalizer above, what follows a serialized model is merged into it: pieces go to the end of the list.
    """
    if not added:
        return model
    size = load_processor(model, source).vocab_size()
    new = sorted((token_id, name) for name, token_id in added.items() if token_id >= size)
    if [token_id for token_id, _ in new] != list(range(size, size + len(new))):
        raise TokenizerError(
            f"{source} has {size} tokens, and added_tokens.json beside it goes on with {new[0][0]} ({new[0][1]!r}) "
            f"and {len(new) - 1} more that are not consecutive from {size}. The two files do not belong together."
        )
    return model + b"".join(_piece(name, 0.0, CONTROL) for _, name in new)


def seal_model(model: bytes) -> bytes:
    """A serialized model in which user-defined pieces written <|name|> are control pieces.

    SentencePiece finds a user-defined piece in any text. A piece is its text, score and type, in this order and each
    with a fixed head, so the one byte of the type is changed where it stands.
    """
    return _USER_DEFINED_CONTROL.sub(lambda entry: entry[0][:-1] + bytes([CONTROL]), model)


def serialize_model(
    pieces: Iterable[tuple[str, float, int]],
    *,
    add_dummy_prefix: bool,
    remove_extra_whitespaces: bool = False,
    precompiled_charsmap: bytes = b"",
) -> bytes:
    """A SentencePiece BPE model with byte fallback, from (piece, score, type) in the order of the ids.

    The fields are those of sentencepiece_model.proto: pieces = 1 (piece 1, score 2, type 3), trainer_spec = 2
    (model_type 3, byte_fallback 35), normalizer_spec = 3 (precompiled_charsmap 2, add_dummy_prefix 3,
    remove_extra_whitespaces 4, escape_whitespaces 5).
    """
    body = bytearray()
    for piece, score, kind in pieces:
        body += _piece(piece, score, kind)
    body += _message(2, _varint_field(3, 2) + _varint_field(35, 1))
    normalizer = _message(1, b"identity") + (_message(2, precompiled_charsmap) if precompiled_charsmap else b"")
    normalizer += _varint_field(3, add_dummy_prefix) + _varint_field(4, remove_extra_whitespaces) + _varint_field(5, 1)
    body += _message(3, normalizer)
    return bytes(body)


def _piece(text: str, score: float, kind: int) -> bytes:
    return _message(1, _message(1, text.encode()) + b"\x15" + struct.pack("<f", score) + _varint_field(3, kind))


def _damaged(source: str, detail: str) -> TokenizerError:
    return TokenizerError(
        f"{source} is no SentencePiece model that can be read: {detail}. It may be truncated, or a Git LFS pointer; "
        "fetch it again."
    )


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _varint_field(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(int(value))


def _message(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data
