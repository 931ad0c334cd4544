"""A model that knows nothing: tokens by chance among those that a guide allows."""

from __future__ import annotations

import random
from typing import Any

from ostro.engine.grammar import CompiledGrammar, Guide
from ostro.engine.grammar_vocabulary import GrammarVocabulary
from ostro.engine.guided import Guided
from ostro.tokenizer.base import Tokenizer
from ostro.tokenizer.detokenize import StreamDetokenizer

CLOSING = (b'"', b"}", b"]", b"0")


class Vocabularies:
    """Compiles for one tokenizer, without the process that tries a grammar out: tests have many of them."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.plain = GrammarVocabulary(tokenizer)
        self.opening = GrammarVocabulary(tokenizer, is_opening=True) if tokenizer.dummy_prefix else None
        ids = range(tokenizer.vocab_size)
        self.closing = frozenset(i for i in ids if tokenizer.token_bytes(i) in CLOSING)

    def compile(self, guided: Guided) -> CompiledGrammar:
        from ostro.engine.grammar import native_grammar

        return CompiledGrammar(guided, native_grammar(guided), self.tokenizer, self.plain, self.opening)

    def answer(self, guided: Guided, seed: int, *, at_start: bool = True) -> tuple[str, list[int]]:
        """Text and ids of an answer that is complete. After some tokens those are preferred that end things."""
        tokenizer, end = self.tokenizer, self.tokenizer.vocab_size
        guide, draws = Guide(self.compile(guided), at_start=at_start), random.Random(seed)
        stream = StreamDetokenizer(tokenizer, at_start=at_start)
        text, ids = "", list[int]()
        while not guide.is_complete:
            allowed = guide.allowed(frozenset({end}))
            assert len(allowed), f"nothing can follow {text!r}"
            if int(allowed[-1]) == end:
                if len(allowed) == 1 or draws.random() < 0.4:
                    break
                allowed = allowed[:-1]
            closing = self.closing.intersection(allowed.tolist()) if len(ids) > 12 and draws.random() < 0.5 else ()
            token_id = min(closing) if closing else int(allowed[draws.randrange(len(allowed))])
            guide.advance(token_id)
            text += stream.push(token_id)
            ids.append(token_id)
            assert len(ids) < 4000, text
        return text + stream.flush(), ids

    def accepts(self, guided: Guided, text: str, *, at_start: bool = True) -> bool:
        """Whether the tokens of a text are allowed one after the other, and the end behind them."""
        tokenizer, end = self.tokenizer, self.tokenizer.vocab_size
        guide = Guide(self.compile(guided), at_start=at_start)
        for token_id in tokenizer.encode(text) if at_start else tokenizer.encode_continuation(text):
            if guide.is_complete or token_id not in guide.allowed(frozenset({end})):
                return False
            guide.advance(token_id)
        return guide.is_complete or end in guide.allowed(frozenset({end}))


def validator(schema: Any) -> Any:
    """jsonschema's judge of the standard's newest draft, or of the one that has lists of items."""
    import jsonschema

    old = isinstance(schema, dict) and isinstance(schema.get("items"), list)
    cls = jsonschema.Draft7Validator if old else jsonschema.Draft202012Validator
    return cls(schema)
