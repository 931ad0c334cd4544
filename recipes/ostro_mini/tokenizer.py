"""Trains the vocabulary of ostro-mini: `python -m recipes.ostro_mini.tokenizer --out DIR`.

SentencePiece BPE with byte fallback and the control tokens of Mistral's v3 at their usual ids, made for copying: a word
has the same tokens wherever it stands. So the space is a token of its own, digits stand alone, letters never merge with
punctuation, and a syllable of Hangul is one token, which merges with nothing (a particle would otherwise change the
tokens of the name before it). Text is not normalized.
"""

from __future__ import annotations

import argparse
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ostro.tokenizer.spm import BYTE, CONTROL, NORMAL, UNKNOWN, serialize_model
from ostro.tokenizer.vocabulary import SPACE
from recipes.ostro_mini import pools
from recipes.ostro_mini.data import conversation, samples, texts

VOCABULARY_SIZE = 4096
CONTROL_TOKENS = (
    "<s>", "</s>", "[INST]", "[/INST]", "[TOOL_CALLS]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]",
)  # fmt: skip
"""Ids 1 to 9, as in Mistral's v3; 0 is <unk>."""

_HANGUL = re.compile("[가-힣]")
_NOT_HANGUL = re.compile("[^가-힣]+")
Piece = tuple[str, float, int]


def corpus(documents: int, conversations: int, seed: int) -> Iterator[str]:
    """What the vocabulary is learnt from: the text of the training data."""
    yield from (record["text"] for record in texts(documents, seed))
    for sample in samples(conversations, seed):
        yield from strings_of(conversation(sample))


def strings_of(record: dict[str, Any]) -> Iterator[str]:
    """The texts of a conversation as the prompt has them: tools and calls as JSON."""
    if "tools" in record:
        yield json.dumps(record["tools"], ensure_ascii=False)
    for message in record["messages"]:
        if message["content"]:
            yield message["content"]
        if "tool_calls" in message:
            yield json.dumps([call["function"] for call in message["tool_calls"]], ensure_ascii=False)


def train(strings: Iterable[str], size: int = VOCABULARY_SIZE, least_syllable: int = 25) -> bytes:
    """A serialized SentencePiece model of `size` pieces.

    Of Hangul it has the syllables that names are made of, and those seen at least so often; the rest are left to bytes.
    """
    syllables: Counter[str] = Counter()
    rest: list[str] = []
    for text in strings:
        syllables.update(_HANGUL.findall(text))
        rest += [line for part in _NOT_HANGUL.findall(text) for line in part.split("\n") if line.strip()]
    common = (syllable for syllable, count in syllables.most_common() if count >= least_syllable)
    hangul = list(dict.fromkeys([*common, *pools.HANGUL]))
    head: list[Piece] = [("<unk>", 0.0, UNKNOWN)]
    head += [(name, 0.0, CONTROL) for name in CONTROL_TOKENS]
    head += [(f"<0x{byte:02X}>", 0.0, BYTE) for byte in range(256)]
    learnt = merges(rest, size - len(head) - len(hangul))
    lowest = min(score for _, score, _ in learnt)
    tail = [(syllable, lowest - 1 - rank, NORMAL) for rank, syllable in enumerate(hangul)]
    return serialize_model([*head, *learnt, *tail], add_dummy_prefix=True)


def merges(lines: Sequence[str], size: int) -> list[Piece]:
    """`size` pieces of text without Hangul; the space is one of them, and no other has a space in it."""
    from sentencepiece import SentencePieceProcessor, SentencePieceTrainer

    out = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=out, model_type="bpe",
        vocab_size=size + 3 + 256,  # SentencePiece counts <unk>, <s>, </s> and the bytes
        user_defined_symbols=[SPACE],  # which no merge touches
        character_coverage=0.9998, byte_fallback=True, split_digits=True, split_by_unicode_script=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False, add_dummy_prefix=False,
        num_threads=1, minloglevel=2, max_sentence_length=100_000,
    )  # fmt: skip
    made: Any = SentencePieceProcessor(model_proto=out.getvalue())
    learnt = [i for i in range(made.vocab_size()) if not (made.is_control(i) or made.is_unknown(i) or made.is_byte(i))]
    return [(made.id_to_piece(i), made.get_score(i), NORMAL) for i in learnt]


def huggingface(model: bytes) -> str:
    """The same vocabulary as a `tokenizer.json`, for transformers and whatever else reads that."""
    from sentencepiece import SentencePieceProcessor
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors

    made: Any = SentencePieceProcessor(model_proto=model)
    pieces = [made.id_to_piece(i) for i in range(made.vocab_size())]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    plain = [i for i in range(len(pieces)) if not (made.is_control(i) or made.is_unknown(i) or made.is_byte(i))]
    pairs = [
        (piece[:cut], piece[cut:])
        for piece in (pieces[i] for i in sorted(plain, key=made.get_score, reverse=True))
        for cut in range(1, len(piece))
        if piece[:cut] in vocabulary and piece[cut:] in vocabulary
    ]
    bpe = models.BPE(vocabulary, pairs, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    tokenizer: Any = Tokenizer(bpe)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in ("<unk>", *CONTROL_TOKENS)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", vocabulary["<s>"])]
    )
    text: str = tokenizer.to_str()
    return text


def settings() -> dict[str, Any]:
    """The content of `tokenizer_config.json`, for transformers."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
        "add_bos_token": True, "add_eos_token": False, "legacy": False, "clean_up_tokenization_spaces": False,
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for tokenizer.model and tokenizer_config.json")
    parser.add_argument("--size", type=int, default=VOCABULARY_SIZE)
    parser.add_argument("--documents", type=int, default=30_000)
    parser.add_argument("--conversations", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    model = train(corpus(given.documents, given.conversations, given.seed), given.size)
    (given.out / "tokenizer.model").write_bytes(model)
    (given.out / "tokenizer.json").write_text(huggingface(model), encoding="utf-8")
    (given.out / "tokenizer_config.json").write_text(json.dumps(settings(), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
