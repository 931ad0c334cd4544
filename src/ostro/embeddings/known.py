"""Prompts of published models whose files do not state them.

Their authors wrote on the models' pages what has to stand in front of a text, before config_sentence_transformers.json
had a place for it. Without it such a model finds worse, and nothing would tell. Sources: the model cards of
intfloat/e5-*, intfloat/multilingual-e5-* and BAAI/bge-*.
"""

from __future__ import annotations

import re

from ostro.embeddings.base import InputType

_E5: dict[InputType, str] = {"query": "query: ", "document": "passage: ", "text": "query: "}
_BGE_ENGLISH: dict[InputType, str] = {"query": "Represent this sentence for searching relevant passages: "}
_BGE_CHINESE: dict[InputType, str] = {"query": "为这个句子生成表示以用于检索相关文章："}

_PUBLISHED: tuple[tuple[str, dict[InputType, str]], ...] = (
    (r"(multilingual-)?e5-(small|base|large)(-v2|-unsupervised)?", _E5),
    (r"bge-(small|base|large)-en(-v1\.5)?", _BGE_ENGLISH),
    (r"bge-(small|base|large)-zh(-v1\.5)?", _BGE_CHINESE),
)


def published_prompts(name: str) -> dict[InputType, str]:
    """The prompts of the model whose repository or folder is called so; {} for any other.

    >>> published_prompts("intfloat/multilingual-e5-small")["document"]
    'passage: '
    """
    last = name.rstrip("/").rpartition("/")[2].lower()
    for pattern, prompts in _PUBLISHED:
        if re.fullmatch(pattern, last):
            return prompts
    return {}
