"""`AutoTokenizer`: HF's calling convention over `ostro.tokenizer`, and `BatchEncoding`, what a call returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from ostro.chat import TemplateFormat, render_chat
from ostro.checkpoint.gguf import GGUFFile
from ostro.errors import RequestError, TokenizerError
from ostro.tokenizer import StreamDetokenizer, Tokenizer, load_tokenizer
from ostro.transformers.batch import BatchEncoding, make_batch, pad_rows, text_list, token_list
from ostro.transformers.sources import SOURCE_ARGUMENTS, refuse_unknown, take_source
from ostro.transformers.tokenizer_files import OPTIONS, family_of, save_tokenizer, stated_options

__all__ = ["AutoTokenizer", "BatchEncoding", "PreTrainedTokenizer"]

_CALL = (
    "text", "add_special_tokens", "padding", "truncation", "max_length", "pad_to_multiple_of", "padding_side",
    "return_tensors", "return_attention_mask", "return_token_type_ids", "split_special_tokens",
)  # fmt: skip


class AutoTokenizer:
    """`AutoTokenizer.from_pretrained(name)` is a PreTrainedTokenizer, whatever the vocabulary."""

    @staticmethod
    def from_pretrained(pretrained_model_name_or_path: str | Path, **kwargs: Any) -> PreTrainedTokenizer:
        """As `PreTrainedTokenizer.from_pretrained`."""
        return PreTrainedTokenizer.from_pretrained(pretrained_model_name_or_path, **kwargs)


class PreTrainedTokenizer:
    """Text to ids and back, called as HF's tokenizers are.

    Two things differ from transformers on purpose. Text with one BOS at its start (a rendered chat template) does not
    get a second one. And `padding_side` is "left" where the checkpoint says nothing, which is the side that `generate`
    needs; set it for training.

    As in transformers, control tokens that stand in the text as text ("[INST]", "</s>") become control tokens, because
    rendered templates are passed as text. Where the text is not yours pass `split_special_tokens=True`, which leaves
    them text; `apply_chat_template(tokenize=True)` always treats the messages so.
    """

    def __init__(self, tokenizer: Tokenizer, *, family: str | None = None, **options: Any) -> None:
        self.tokenizer = tokenizer
        self.family = family
        self.padding_side = options.pop("padding_side", None) or "left"
        self.truncation_side = options.pop("truncation_side", None) or "right"
        self.model_max_length = int(min(options.pop("model_max_length", None) or 10**30, 10**30))
        self.add_bos_token = _default(options.pop("add_bos_token", None), tokenizer.adds_bos)
        self.add_eos_token = _default(options.pop("add_eos_token", None), False)
        self.chat_template = options.pop("chat_template", None)
        self.name_or_path = str(options.pop("name_or_path", ""))
        self._folder: Path | None = None  # of the files, for save_pretrained
        self.bos_token_id = tokenizer.bos_id
        self.eos_token_id = tokenizer.eos_id
        self.pad_token_id: int | None = None
        for name in ("bos_token", "eos_token", "pad_token"):
            value = options.pop(name, None)
            if value is not None:
                setattr(self, name, value)
        refuse_unknown("PreTrainedTokenizer", options, OPTIONS)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> PreTrainedTokenizer:
        """The tokenizer of a folder, GGUF file, alias or hub repository.

        `revision`, `cache_dir`, `local_files_only` say where from; `padding_side`, `truncation_side`,
        `model_max_length`, `pad_token`, `bos_token`, `eos_token`, `add_bos_token`, `add_eos_token` and `chat_template`
        replace what the files say. `use_fast` and `legacy` choose between implementations in transformers; here there
        is one, which gives the ids of the model's own tokenizer, so either value is right.
        """
        kwargs.pop("use_fast", None)
        kwargs.pop("legacy", None)
        path = take_source(pretrained_model_name_or_path, kwargs).path()
        refuse_unknown(f"{cls.__name__}.from_pretrained", _without(kwargs, OPTIONS), (*OPTIONS, *SOURCE_ARGUMENTS))
        if path.is_dir():
            tokenizer = load_tokenizer(path)
            stated = stated_options(path)
        else:
            tokenizer = load_tokenizer(gguf_metadata=GGUFFile(path).metadata, source=str(path))
            stated = {}
        given = {key: value for key, value in kwargs.items() if value is not None}
        options = {**stated, **given, "name_or_path": pretrained_model_name_or_path}
        made = cls(tokenizer, family=family_of(path), **options)
        made._folder = path if path.is_dir() else None
        return made

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> tuple[str, ...]:
        """Copy the tokenizer's files, with the settings changed since they were read; returns the paths written.

        RequestError for a tokenizer of a GGUF file, which has no files of its own, for a change that the files cannot
        hold (Tekken's BOS), and for any other argument.
        """
        refuse_unknown(f"{type(self).__name__}.save_pretrained", kwargs, ("save_directory",))
        return save_tokenizer(self, self._folder, Path(save_directory))

    @property
    def vocab_size(self) -> int:
        """Ids are below this."""
        return self.tokenizer.vocab_size

    def __len__(self) -> int:
        return self.tokenizer.vocab_size

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {self.tokenizer.piece(i): i for i in reversed(range(self.tokenizer.vocab_size))}

    def get_vocab(self) -> dict[str, int]:
        """Piece to id."""
        return dict(self._ids)

    def _name(self, token_id: int | None) -> str | None:
        return None if token_id is None else self.tokenizer.piece(token_id)

    def _id(self, token: str | None) -> int | None:
        return None if token is None else self.convert_tokens_to_ids(token)

    @property
    def bos_token(self) -> str | None:
        """The token that begins a sequence, by its name; settable."""
        return self._name(self.bos_token_id)

    @bos_token.setter
    def bos_token(self, token: str | None) -> None:
        self.bos_token_id = self._id(token)

    @property
    def eos_token(self) -> str | None:
        """The token that ends a sequence, by its name; settable."""
        return self._name(self.eos_token_id)

    @eos_token.setter
    def eos_token(self, token: str | None) -> None:
        self.eos_token_id = self._id(token)

    @property
    def pad_token(self) -> str | None:
        """The token that fills up rows, by its name; settable: `tokenizer.pad_token = tokenizer.eos_token`."""
        return self._name(self.pad_token_id)

    @pad_token.setter
    def pad_token(self, token: str | None) -> None:
        self.pad_token_id = self._id(token)

    @property
    def unk_token_id(self) -> int | None:
        """The unknown token's id, where the vocabulary has one."""
        return self.tokenizer.control_tokens.get("<unk>")

    @cached_property
    def _control(self) -> frozenset[int]:
        return frozenset(filter(self.tokenizer.is_control, range(self.tokenizer.vocab_size)))

    @property
    def all_special_ids(self) -> list[int]:
        """Ids of all control tokens."""
        return sorted(self._control)

    @property
    def all_special_tokens(self) -> list[str]:
        """Names of all control tokens."""
        return [self.tokenizer.piece(i) for i in self.all_special_ids]

    def __call__(
        self,
        text: str | Sequence[str],
        text_pair: None = None,
        *,
        add_special_tokens: bool = True,
        padding: bool | str = False,
        truncation: bool | str = False,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_tensors: str | None = None,
        return_attention_mask: bool = True,
        return_token_type_ids: bool = False,
        split_special_tokens: bool = False,
        **unknown: Any,
    ) -> BatchEncoding:
        """`input_ids` and `attention_mask`: lists, or with `return_tensors` "pt" or "np" arrays (B, T).

        `padding`: True or "longest", "max_length" (to `max_length` or `model_max_length`), False. `truncation`: True
        keeps `max_length` ids, BOS included. `return_token_type_ids` can only be False: the models have none. So can
        `text_pair` only be None: they read one text. RequestError names any other argument.
        """
        refuse_unknown("The tokenizer's call", unknown, _CALL)
        if text_pair is not None:
            raise RequestError(
                "text_pair: these models read one text. Join the two, or give a list of texts: tokenizer([a, b]).",
                param="text_pair",
            )
        if return_token_type_ids:
            raise RequestError("These models have no token types: leave return_token_type_ids out.")
        single = isinstance(text, str)
        texts = text_list(text)
        limit = self._limit(truncation, max_length)
        rows = [self._row(item, add_special_tokens, split_special_tokens, limit) for item in texts]
        return make_batch(
            self._padded(rows, padding, max_length, pad_to_multiple_of, padding_side),
            return_tensors,
            single=single,
            with_mask=return_attention_mask,
        )

    def encode(self, text: str, text_pair: None = None, **kwargs: Any) -> Any:
        """The `input_ids` of a call."""
        return self(text, text_pair, **kwargs)["input_ids"]

    def tokenize(self, text: str) -> list[str]:
        """The pieces of a text, without BOS."""
        return [self.tokenizer.piece(i) for i in self._row(text, False, False, None)]

    def decode(
        self, token_ids: Any, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool | None = None
    ) -> str:
        """Text of ids (T,), as a list, array or tensor, or of one id; control tokens by their names unless skipped."""
        if clean_up_tokenization_spaces:
            raise RequestError(
                "clean_up_tokenization_spaces=True would change the text that the tokens stand for. Leave it out.",
                param="clean_up_tokenization_spaces",
            )
        ids = token_list(token_ids)
        if wrong := [i for i in ids if not 0 <= i < self.vocab_size]:
            raise TokenizerError(
                f"{self.tokenizer.source}: there is no token {wrong[0]}; ids are 0 .. {self.vocab_size - 1}."
            )
        return self.tokenizer.decode(ids, keep_control=not skip_special_tokens)

    def detokenizer(self, skip_special_tokens: bool = False) -> StreamDetokenizer:
        """Text of ids that come one by one: what it gives out, joined, is the `decode` of all."""
        visible = frozenset[int]() if skip_special_tokens else self._control
        return StreamDetokenizer(self.tokenizer, at_start=True, visible_control=visible)

    def batch_decode(self, sequences: Any, skip_special_tokens: bool = False, **kwargs: Any) -> list[str]:
        """`decode` of every row."""
        return [self.decode(row, skip_special_tokens, **kwargs) for row in sequences]

    def convert_ids_to_tokens(self, ids: Any, skip_special_tokens: bool = False) -> str | list[str]:
        """The piece of an id, or of each."""
        if isinstance(ids, int):
            return self.tokenizer.piece(ids)
        control = self.tokenizer.is_control if skip_special_tokens else lambda _: False
        return [self.tokenizer.piece(i) for i in token_list(ids) if not control(i)]

    def convert_tokens_to_ids(self, tokens: Any) -> Any:
        """The id of a piece or control token, or of each."""
        if not isinstance(tokens, str):
            return [self.convert_tokens_to_ids(token) for token in tokens]
        found = self.tokenizer.control_tokens.get(tokens, self._ids.get(tokens))
        if found is None:
            raise TokenizerError(f"{self.tokenizer.source} has no token {tokens!r}.")
        return found

    def pad(
        self,
        encoded_inputs: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        padding: bool | str = True,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_tensors: str | None = None,
    ) -> BatchEncoding:
        """Rows of `input_ids` (and nothing else but their masks), as a data collator has them, to one length."""
        if isinstance(encoded_inputs, Mapping):
            ids = encoded_inputs["input_ids"]
            extra = set(encoded_inputs)
        else:
            ids = [item["input_ids"] for item in encoded_inputs]
            extra = {key for item in encoded_inputs for key in item}
        if extra - {"input_ids", "attention_mask"}:
            raise RequestError(f"pad fills input_ids only; take {sorted(extra - {'input_ids', 'attention_mask'})} out.")
        rows = self._padded([token_list(row) for row in ids], padding, max_length, pad_to_multiple_of, padding_side)
        return make_batch(rows, return_tensors, single=False, with_mask=True)

    def apply_chat_template(
        self,
        conversation: Sequence[Any],
        tools: Sequence[Any] | None = None,
        *,
        chat_template: str | None = None,
        add_generation_prompt: bool = False,
        continue_final_message: bool = False,
        tokenize: bool = True,
        padding: bool | str = False,
        truncation: bool | str = False,
        max_length: int | None = None,
        return_tensors: str | None = None,
        return_dict: bool = False,
    ) -> Any:
        """The prompt of a chat: ids, a tensor (B, T) with `return_tensors="pt"`, text with `tokenize=False`.

        It is rendered by the family's own format (`ostro.chat`), where words of a message never become control tokens,
        or by `chat_template`, a Jinja template, run in a sandbox.
        `return_dict=True` returns a BatchEncoding with its mask. `conversation` may be a list of chats. The text of
        `tokenize=False` may be passed to the tokenizer, which gives the same ids, as long as the messages hold no
        control tokens of their own.
        """
        single = not conversation or isinstance(conversation[0], Mapping)
        chats = [conversation] if single else list(conversation)
        template = chat_template or self.chat_template
        rows = [self._chat(chat, tools, template, add_generation_prompt, continue_final_message) for chat in chats]
        if not tokenize:
            texts = [self.tokenizer.decode(row, keep_control=True) for row in rows]
            return texts[0] if single else texts
        limit = self._limit(truncation, max_length)
        rows = [self._cut(row, limit, 0) for row in rows]
        batch = make_batch(
            self._padded(rows, padding, max_length, None, None), return_tensors, single=single, with_mask=True
        )
        return batch if return_dict else batch["input_ids"]

    def _chat(
        self,
        chat: Sequence[Any],
        tools: Sequence[Any] | None,
        template: str | None,
        generation: bool,
        continue_final: bool,
    ) -> list[int]:
        prompt = render_chat(
            self.tokenizer,
            chat,
            tools=tools,
            format=None if template is None else TemplateFormat(template),
            family=self.family,
            add_generation_prompt=generation,
            continue_final_message=continue_final,
        )
        return list(prompt.token_ids)

    def _row(self, text: str, special: bool, split_special: bool, limit: int | None) -> list[int]:
        ids = self.tokenizer.encode(text) if split_special else self.tokenizer.encode_with_control(text)
        bos, eos = self.bos_token_id, self.eos_token_id
        begins = special and self.add_bos_token and bos is not None and ids[:1] != [bos]
        ends = special and self.add_eos_token and eos is not None
        head, tail = ([bos] if begins else []), ([eos] if ends else [])
        return [*head, *self._cut(ids, limit, len(head) + len(tail)), *tail]  # type: ignore[list-item]

    def _limit(self, truncation: bool | str, max_length: int | None) -> int | None:
        if truncation in (False, "do_not_truncate"):
            return None
        if truncation not in (True, "longest_first", "only_first"):
            raise RequestError(f"truncation must be True or False, not {truncation!r}.", param="truncation")
        return self.model_max_length if max_length is None else max_length

    def _cut(self, ids: list[int], limit: int | None, reserved: int) -> list[int]:
        if limit is None or len(ids) + reserved <= limit:
            return ids
        keep = max(0, limit - reserved)
        return ids[:keep] if self.truncation_side == "right" else ids[len(ids) - keep :]

    def _padded(
        self,
        rows: list[list[int]],
        padding: bool | str,
        max_length: int | None,
        multiple: int | None,
        side: str | None,
    ) -> list[tuple[list[int], list[int]]]:
        return pad_rows(
            rows, padding, self.pad_token_id, max_length or self.model_max_length, multiple, side or self.padding_side
        )

    def __repr__(self) -> str:
        return f"PreTrainedTokenizer({self.tokenizer.source!r}, vocab_size={self.vocab_size})"


def own_tokenizer(value: Any) -> PreTrainedTokenizer:
    """`value`, if it is a tokenizer of this package; RequestError for another library's."""
    if isinstance(value, PreTrainedTokenizer):
        return value
    raise RequestError(
        f"tokenizer is a {type(value).__module__}.{type(value).__name__}; it must be one of ostro.transformers: "
        "AutoTokenizer.from_pretrained(...).",
        param="tokenizer",
    )


def _default(value: Any, default: bool) -> bool:
    return default if value is None else bool(value)


def _without(values: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in names}
