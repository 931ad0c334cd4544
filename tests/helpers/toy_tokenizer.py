"""A tokenizer of bytes with Llama 3's or any other control tokens: formats can be shown without a real vocabulary."""

from __future__ import annotations

from collections.abc import Sequence

from ostro.tokenizer.vocabulary import Vocabulary, VocabularyTokenizer

LLAMA = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|finetune_right_pad_id|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eom_id|>",
    "<|eot_id|>",
    "<|python_tag|>",
    "<|image|>",
)


class _Bytes:
    def encode(self, text: str, *, continuation: bool) -> list[int]:
        return list(text.encode())


def toy(
    control: Sequence[str] = LLAMA,
    *,
    bos: str | None = None,
    eos: str | None = None,
    template: str | None = None,
    adds_bos: bool = True,
) -> VocabularyTokenizer:
    """Ids 0 to 255 are bytes, the control tokens follow; BOS and EOS are the first two unless they are named."""
    names = [bos or control[0], eos or control[1]]
    vocabulary = Vocabulary(
        kind="bpe",
        source="toy",
        pieces=[bytes([i]).decode("latin-1") for i in range(256)] + list(control),
        token_bytes=[bytes([i]) for i in range(256)] + [b""] * len(control),
        control=frozenset(range(256, 256 + len(control))),
        bos_id=256 + list(control).index(names[0]),
        eos_id=256 + list(control).index(names[1]),
        chat_template=template,
        adds_bos=adds_bos,
    )
    return VocabularyTokenizer(vocabulary, _Bytes())
