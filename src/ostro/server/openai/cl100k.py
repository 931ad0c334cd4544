"""Token ids in `input` of `/v1/embeddings`: those of cl100k_base, the vocabulary of all of OpenAI's embedding models.

LangChain's OpenAIEmbeddings sends ids unless it is told not to. The models served here have other vocabularies, so the
ids are turned into the text that they spell. The vocabulary is not part of ostro: whoever made such ids on this machine
has it as the file that tiktoken keeps, and there it is read.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from ostro import env
from ostro.server.errors import FieldError

FILE = "9b5ad71b2ce5302211f9c61530b329a4922fc6a4"
"""tiktoken's name for the file: the SHA-1 of its address."""
SHA256 = "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"
"""Of the file itself, as tiktoken states it. The folder may be one that everybody can write to."""


def decode(token_ids: Sequence[int], param: str) -> str:
    """The text that ids of cl100k_base spell; a character that is cut at an end becomes U+FFFD.

    FieldError where the vocabulary is not on this machine, and for an id that no text has.
    """
    pieces = _found(env.tiktoken_cache() / FILE)
    if pieces is None:
        raise FieldError(
            f"{param} has token ids. Those of OpenAI's embedding models (cl100k_base) could be read, but tiktoken has "
            "left that vocabulary nowhere on the server's machine (TIKTOKEN_CACHE_DIR). Send texts: LangChain's "
            "OpenAIEmbeddings does with check_embedding_ctx_length=False.",
            param=param,
            code="unsupported_parameter",
        )
    for each in token_ids:
        if each not in pieces:
            raise FieldError(f"{param} has the token id {each}, which stands for no text in cl100k_base.", param=param)
    return b"".join(pieces[each] for each in token_ids).decode("utf-8", errors="replace")


def _found(file: Path) -> Mapping[int, bytes] | None:
    try:
        return _pieces(file, file.stat().st_mtime_ns)
    except OSError:
        return None


@functools.lru_cache(maxsize=1)
def _pieces(file: Path, changed: int) -> Mapping[int, bytes] | None:
    """The bytes of each id; None where the file is another one. `changed` has a new file read anew."""
    del changed
    content = file.read_bytes()
    if hashlib.sha256(content).hexdigest() != SHA256:
        return None
    rows = (line.split() for line in content.splitlines())
    return {int(rank): base64.b64decode(piece) for piece, rank in rows}
