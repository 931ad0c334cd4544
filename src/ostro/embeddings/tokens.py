"""The tokenizer of an embedding model: any tokenizer.json, run by the library `tokenizers`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ostro.embeddings.base import Frame
from ostro.errors import TokenizerError, TokenizerNotFoundError


class EncoderTokenizer:
    """WordPiece, Unigram or any other model of a tokenizer.json.

    Text is encoded with special parsing off, as everywhere in ostro: "[SEP]" in a document stays text. `frame` are the
    special tokens that the file's post-processor puts around a text. `lower_case` lowers texts first.
    """

    def __init__(self, path: Path, *, lower_case: bool = False) -> None:
        from tokenizers import Tokenizer

        if not path.is_file():
            raise TokenizerNotFoundError(
                f"{path} is not there. An embedding model needs its tokenizer.json: download the model again, or make "
                "the file once with transformers (AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER))."
            )
        try:
            self._tokenizer: Any = Tokenizer.from_file(str(path))
            self._tokenizer.no_truncation()
            self._tokenizer.no_padding()
            self.frame = _frame_of(self._tokenizer)
            self._tokenizer.encode_special_tokens = True
        except Exception as error:  # the library has no class of its own
            raise TokenizerError(f"{path} cannot be read ({error}): download the model again.") from None
        self._lower_case = lower_case
        self.vocab_size: int = self._tokenizer.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        """Ids of plain text, without special tokens."""
        given = text.lower() if self._lower_case else text
        ids: list[int] = self._tokenizer.encode(given, add_special_tokens=False).ids
        return ids


def _frame_of(tokenizer: Any) -> Frame:
    """What stands in front of a word and behind it when special tokens are added."""
    alone, framed = (tokenizer.encode("a", add_special_tokens=added).ids for added in (False, True))
    for start in range(len(framed) - len(alone) + 1):
        if framed[start : start + len(alone)] == alone:
            return Frame(tuple(framed[:start]), tuple(framed[start + len(alone) :]))
    raise ValueError("its post-processor changes the text's own tokens")
