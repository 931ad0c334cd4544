"""What every tokenizer gives, whatever file it came from.

Text is always encoded with special parsing off: `encode("</s>[INST]")` is the text "</s>[INST]" and never a control
token. Control tokens are had by name, from `control_id`, and only the prompt formats of `ostro.chat` place them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol, TypeAlias

TokenizerKind: TypeAlias = Literal["spm", "tekken", "tiktoken", "bpe"]
"""spm: SentencePiece with byte fallback; tekken: Mistral's; tiktoken: Meta's Llama 3; bpe: another byte-level BPE."""


class Tokenizer(Protocol):
    """Text to ids and back. Ids are ints in 0 .. vocab_size-1."""

    @property
    def kind(self) -> TokenizerKind:
        """The algorithm."""

    @property
    def version(self) -> str | None:
        """Mistral's prompt version if known: "v1", "v2", "v3", "v3-tekken", "v7", "v7-tekken"; else None."""

    @property
    def source(self) -> str:
        """The file that the vocabulary came from, for messages."""

    @property
    def vocab_size(self) -> int:
        """Ids are below this. An id in between that the file leaves out stands for nothing: no text, no control token.

        A model may have more rows than this in its embeddings (padding); `piece` and `token_bytes` refuse their ids.
        """

    @property
    def bos_id(self) -> int | None:
        """Beginning of a sequence, if the vocabulary has one."""

    @property
    def eos_id(self) -> int | None:
        """End of a sequence, if the vocabulary has one."""

    @property
    def adds_bos(self) -> bool:
        """Whether a plain text is to begin with BOS, which `encode` leaves to its caller; False without a `bos_id`.

        It is what `add_bos_token` of tokenizer_config.json or `tokenizer.ggml.add_bos_token` says, and True where they
        are silent: all models of these families were trained so (for Llama 3 the post-processor of tokenizer.json says
        it). Prompt formats of Mistral and Llama have their BOS whatever this says.

        `add_eos_token` has no counterpart: a text that is to be continued does not end with EOS, so what a file says of
        it is not followed here. (`ostro.transformers`, which also prepares texts for training, follows it.)
        """

    @property
    def control_tokens(self) -> Mapping[str, int]:
        """Every control token by its name, such as "[INST]" or "<|eot_id|>"."""

    @property
    def dummy_prefix(self) -> bool:
        """Whether `encode` puts SentencePiece's dummy space in front, which `decode` then takes off again."""

    @property
    def chat_template(self) -> str | None:
        """The checkpoint's own Jinja template, if it ships one."""

    def control_id(self, name: str) -> int:
        """The id of a control token; TokenizerError names the vocabulary where it has none of this name."""

    def is_control(self, token_id: int) -> bool:
        """Whether the id is a control token (which decodes to no text)."""

    def encode(self, text: str) -> list[int]:
        """Ids of plain text; no BOS, no EOS, never a control token. SentencePiece puts its dummy space in front."""

    def encode_continuation(self, text: str) -> list[int]:
        """As `encode`, without SentencePiece's dummy space in front: for text that goes on where other text ended."""

    def encode_with_control(self, text: str) -> list[int]:
        """Ids of a rendered template in which control tokens stand as text; for templates, never for user text."""

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that the token stands for in running text (with SentencePiece's space); b"" for a control token."""

    def piece(self, token_id: int) -> str:
        """The token as a person may read it: "▁Hello" (SentencePiece), " Hello" (the others), "<0xE1>", "[INST]"."""

    def decode(self, ids: Sequence[int], *, keep_control: bool = False) -> str:
        """Text of ids; SentencePiece's dummy space at the start is dropped, invalid bytes become U+FFFD.

        `keep_control` writes control tokens by their names instead of leaving them out.
        """
