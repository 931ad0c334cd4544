"""From records to token ids and the mask of what is learnt.

The mask comes from the segments of the prompt (`ostro.chat.segments`): what the assistant wrote, its calls, and the
token that ends them. Nothing is searched for in text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from ostro.chat import (
    AssistantMessage,
    ChatFormat,
    Message,
    MistralFormat,
    Prompt,
    SystemMessage,
    TemplateFormat,
    Tool,
    ToolMessage,
    choose_format,
    named_format,
    render_chat,
)
from ostro.errors import DataError, EmptyMaskError, PromptError
from ostro.finetune.records import ChatRecord, PreferenceRecord, TextRecord
from ostro.tokenizer.base import Tokenizer

if TYPE_CHECKING:
    from rich.text import Text

Overlong: TypeAlias = Literal["error", "truncate", "drop", "split"]
OVERLONG: tuple[Overlong, ...] = get_args(Overlong)
_ASSISTANT = re.compile(r"assistant\[(\d+)\]")
_HIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_REMEDY = "raise max_length, or set overlong to truncate or drop"


@dataclass(frozen=True, slots=True)
class Example:
    """T tokens, and for each whether the model is to learn to predict it from those before it.

    `token_ids` is int32 (T,), `is_trained` bool (T,); the first token, which has none before it, is never trained.
    `repairs` says what was mended in the messages, `is_truncated` whether the end was cut off.
    """

    token_ids: npt.NDArray[np.int32]
    is_trained: npt.NDArray[np.bool_]
    where: str
    repairs: tuple[str, ...] = ()
    is_truncated: bool = False

    def __len__(self) -> int:
        return len(self.token_ids)

    @property
    def num_trained(self) -> int:
        """How many tokens are trained."""
        return int(self.is_trained.sum())


def training_format(tokenizer: Tokenizer, *, family: str | None = None, name: str | None = None) -> ChatFormat:
    """The prompt format to train on: the one called `name`, or the one that the model is served with.

    A checkpoint's own Jinja template does not say which tokens are the assistant's. It will do where the format of the
    model's family writes the same prompts, which is tried; else DataError asks for a name.
    """
    if name is not None:
        return named_format(name)
    form = choose_format(tokenizer, family, tokenizer.chat_template)
    if not isinstance(form, TemplateFormat):
        return form
    try:
        usual = choose_format(tokenizer, family, None)
    except PromptError:
        usual = None
    if usual is not None and _write_alike(tokenizer, usual, form):
        return usual
    instead = f"Its vocabulary would go with {usual.name}, which writes other prompts. " if usual else ""
    raise DataError(
        f"The prompts of {tokenizer.source} come from its own chat template, which does not say which tokens are the "
        f"assistant's, so there is no mask to train with. {instead}Name a prompt format (data.prompt_format, such as "
        "mistral-v3 or llama-3.1), and use the model with the same one."
    )


def _write_alike(tokenizer: Tokenizer, one: ChatFormat, other: ChatFormat) -> bool:
    """Whether two formats write the same ids for a conversation with a system text."""
    told = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is ice?"},
        {"role": "assistant", "content": "Frozen water."},
        {"role": "user", "content": "And steam?"},
    ]
    try:
        return all(
            render_chat(tokenizer, messages, format=one).token_ids
            == render_chat(tokenizer, messages, format=other).token_ids
            for messages in (told, told[1:], told[1:2])
        )
    except PromptError:
        return False


def encode_chat(
    record: ChatRecord, tokenizer: Tokenizer, form: ChatFormat, *, max_length: int, overlong: Overlong = "error"
) -> tuple[Example, ...]:
    """The examples of a conversation: usually one.

    There are several where the format moves words to the user's last turn: mistral-v2 to v11 write the tools there, v2
    and v3 the system text too. An answer in an earlier turn would then be learnt from a prompt without them, which is
    not what the model is given in use, so each turn with such answers becomes an example that ends with it. So every
    trained token stands behind exactly the prompt that the model would be asked with.

    () where the conversation is longer than `max_length` and dropped, or truncated so that nothing trained is left.
    DataError names the record where it cannot be written, or is too long under overlong="error"; EmptyMaskError where
    no message of the assistant is trained.
    """
    if not any(record.trained):
        raise EmptyMaskError(_nothing_to_learn(record))
    examples, begin = [], 0
    ends = _turn_ends(record.messages) if _moves_words(form, record) else [len(record.messages)]
    for end in ends:
        if any(record.trained[begin:end]):
            examples.append(_encode_until(record, tokenizer, form, begin, end))
        begin = end
    if not any(example.num_trained for example in examples):
        raise EmptyMaskError(_nothing_to_learn(record))
    fitted = [_fitted(example, max_length, overlong) for example in examples if example.num_trained]
    return tuple(example for example in fitted if example is not None)


def _nothing_to_learn(record: ChatRecord) -> str:
    spoken = sum(isinstance(message, AssistantMessage) for message in record.messages)
    if spoken and not any(record.trained):
        why = f"none of its {spoken} assistant messages is trained (weight 0)"
    else:
        why = "it has no assistant message with any content" if spoken else "it has no assistant message"
    return f"{record.where}: there is nothing to learn, as {why}. Leave the record out, or mend it."


def _moves_words(form: ChatFormat, record: ChatRecord) -> bool:
    """Whether the format writes an earlier turn otherwise once a later one has come."""
    if not isinstance(form, MistralFormat):
        return False
    number = form.number
    systems = [index for index, message in enumerate(record.messages) if isinstance(message, SystemMessage)]
    if number == 1:
        return any(index > 0 for index in systems)
    calls = any(isinstance(message, AssistantMessage) and message.tool_calls for message in record.messages)
    return (number < 13 and bool(record.tools)) or (number < 7 and bool(systems)) or (number == 2 and calls)


def _turn_ends(messages: Sequence[Message]) -> list[int]:
    """Where the answer to a user ends: before the next message that is neither the assistant's nor a tool's."""
    answers = [isinstance(message, AssistantMessage | ToolMessage) for message in messages]
    ends = [index for index in range(1, len(messages)) if answers[index - 1] and not answers[index]]
    return [*ends, len(messages)]


def _encode_until(record: ChatRecord, tokenizer: Tokenizer, form: ChatFormat, begin: int, end: int) -> Example:
    """The conversation up to message `end`, with the answers from message `begin` on trained."""
    prompt = _rendered(record.messages[:end], record.tools, record.where, tokenizer, form)
    trained = {index for index in range(begin, end) if record.trained[index]}
    mask = np.zeros(len(prompt), np.bool_)
    position = 0
    for segment in prompt.segments:
        if segment.is_completion:
            mask[position : position + len(segment.ids)] = _is_trained(segment.origin, trained, record, form)
        position += len(segment.ids)
    return _example(prompt.token_ids, mask, record.where, prompt.repairs)


def _rendered(
    messages: Sequence[Message], tools: Sequence[Tool], where: str, tokenizer: Tokenizer, form: ChatFormat
) -> Prompt:
    try:
        return render_chat(tokenizer, messages, tools=tools, format=form, add_generation_prompt=False)
    except PromptError as error:
        raise DataError(f"{where}: {error}") from None


def _is_trained(origin: str, trained: set[int], record: ChatRecord, form: ChatFormat) -> bool:
    """Of a segment that the assistant wrote; several of its messages may have been merged into one."""
    indices = {int(index) for index in _ASSISTANT.findall(origin)}
    assert indices, f"a completion of {origin!r}"
    if len({record.trained[index] for index in indices}) > 1:
        merged = " and ".join(f"messages[{index}]" for index in sorted(indices))
        raise DataError(
            f"{record.where}: {merged} follow one another, so {form.name} merges them, and one is trained and the "
            "other not. Give them the same weight, or put a user's message between them."
        )
    return indices <= trained


def _example(ids: Sequence[int], mask: npt.NDArray[np.bool_], where: str, repairs: tuple[str, ...] = ()) -> Example:
    mask[:1] = False
    return Example(np.array(ids, np.int32), mask, where, repairs)


def _fitted(example: Example, max_length: int, overlong: Overlong) -> Example | None:
    """The example in at most `max_length` tokens; None where it is dropped, or nothing trained is left."""
    if len(example) <= max_length:
        return example
    if overlong == "drop":
        return None
    if overlong == "truncate":
        ids, mask = example.token_ids[:max_length].copy(), example.is_trained[:max_length].copy()
        return Example(ids, mask, example.where, example.repairs, is_truncated=True) if mask.any() else None
    if overlong == "split":
        raise DataError(f"{example.where}: overlong 'split' is for plain text; a conversation can be truncated.")
    raise DataError(f"{example.where} has {len(example):,} tokens, and max_length is {max_length:,}: {_REMEDY}.")


def encode_text(
    record: TextRecord, tokenizer: Tokenizer, *, max_length: int, overlong: Overlong = "split"
) -> tuple[Example, ...]:
    """The examples of a text, all of whose tokens are trained: BOS (if the vocabulary begins texts with it), the text
    and EOS.

    "split" makes a longer text several examples, each of which begins with the last token of the one before, so that
    every token is predicted once. EmptyMaskError where the text is empty.
    """
    ids = tokenizer.encode(record.text) if record.begins else tokenizer.encode_continuation(record.text)
    if not ids:
        raise EmptyMaskError(f"{record.where}: the text is empty, so there is nothing to learn. Leave the record out.")
    if record.begins and tokenizer.adds_bos and tokenizer.bos_id is not None:
        ids = [tokenizer.bos_id, *ids]
    if record.ends and tokenizer.eos_id is not None:
        ids = [*ids, tokenizer.eos_id]
    whole = _example(ids, np.ones(len(ids), np.bool_), record.where)
    if len(whole) <= max_length or overlong != "split":
        fitted = _fitted(whole, max_length, overlong)
        return () if fitted is None else (fitted,)
    if max_length < 2:
        raise DataError(f"max_length is {max_length}; a text can be split into pieces of at least 2 tokens.")
    starts = range(0, len(ids) - 1, max_length - 1)
    return tuple(
        _example(ids[start : start + max_length], whole.is_trained[start : start + max_length].copy(), record.where)
        for start in starts
    )


def encode_preference(
    record: PreferenceRecord, tokenizer: Tokenizer, form: ChatFormat, *, max_length: int, overlong: Overlong = "error"
) -> tuple[Example, ...]:
    """(chosen, rejected): the prompt with each answer, of which only the answer is trained.

    () where one of them is too long and dropped, or nothing of its answer is left when it is truncated.
    """
    pair = []
    for name, answer in (("chosen", record.chosen), ("rejected", record.rejected)):
        messages = (*record.messages, *answer)
        learnt = tuple(isinstance(message, AssistantMessage) for message in answer)
        trained = (False,) * len(record.messages) + learnt
        conversation = ChatRecord(messages, record.tools, trained, f"{record.where}, {name}")
        whole = _encode_until(conversation, tokenizer, form, len(record.messages), len(messages))
        if not whole.num_trained:
            raise EmptyMaskError(_nothing_to_learn(conversation))
        fitted = _fitted(whole, max_length, overlong)
        if fitted is None:
            return ()
        pair.append(fitted)
    return tuple(pair)


def coloured_sample(example: Example, tokenizer: Tokenizer, *, max_tokens: int = 1024) -> Text:
    """The example as a person may check it: what is trained in green, the rest dim, control tokens by their names."""
    from rich.text import Text

    shown = Text(f"{example.where}: {len(example):,} tokens, {example.num_trained:,} of them trained (green)\n")
    ids, mask = example.token_ids[:max_tokens].tolist(), example.is_trained[:max_tokens]
    cuts = [0, *(np.flatnonzero(mask[1:] != mask[:-1]) + 1).tolist(), len(ids)]
    for start, end in pairwise(cuts):
        style = "bold green" if mask[start] else "dim"
        shown.append(_HIDDEN.sub("\ufffd", _text_of(ids[start:end], tokenizer)), style=style)
    if len(example) > max_tokens:
        shown.append(f"\n... and {len(example) - max_tokens:,} more tokens")
    return shown


def _text_of(ids: Sequence[int], tokenizer: Tokenizer) -> str:
    """Text of ids, in which characters of several tokens are put together again."""
    parts = [tokenizer.piece(i).encode() if tokenizer.is_control(i) else tokenizer.token_bytes(i) for i in ids]
    return b"".join(parts).decode("utf-8", "replace")
