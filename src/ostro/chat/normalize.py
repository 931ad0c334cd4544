"""From messages as clients send them to a conversation that a format can write; every repair is noted.

In strict mode nothing is repaired: PromptError names the message and what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ostro.chat.messages import JOIN, AssistantMessage, Message, SystemMessage, ToolMessage, UserMessage
from ostro.chat.pairing import pair_results
from ostro.chat.rules import FormatRules, Mender, Turn
from ostro.chat.tool_ids import ToolCallIds, is_mistral_id

SAFE_PROMPT = (
    "Always assist with care, respect, and truth. Respond with utmost utility yet securely. Avoid harmful, unethical, "
    "prejudiced, or negative content. Ensure replies promote fairness and positivity."
)
"""The guardrail of Mistral's API, in front of other system text. Source: its documentation."""


@dataclass(frozen=True)
class Conversation:
    """What a format writes. `system` is the system prompt where the format folds it into a user's text, else None."""

    turns: tuple[Turn, ...]
    system: Turn | None
    tool_call_ids: ToolCallIds
    repairs: tuple[str, ...]

    @property
    def is_open(self) -> bool:
        """Whether the last turn is a prefix that the model is to continue."""
        last = self.turns[-1].message if self.turns else None
        return isinstance(last, AssistantMessage) and last.prefix


def normalize(
    messages: Sequence[Message],
    rules: FormatRules,
    *,
    strict: bool = False,
    safe_prompt: bool = False,
    add_generation_prompt: bool = True,
) -> Conversation:
    """Mend what the format cannot express; what each step does stands in docs/prompts.md."""
    mender = Mender(rules.name, strict)
    turns = [Turn(message, index, f"{message.role}[{index}]") for index, message in enumerate(messages)]
    turns = _settle_prefixes(turns, mender)
    turns = _drop_empty_answers(turns, mender)
    turns = pair_results(turns, rules, mender, add_generation_prompt)
    if strict:
        _check_order(turns, rules, mender)
    if safe_prompt:
        turns = _guard(turns)
    if rules.merge_turns:
        turns = _merge_turns(turns, mender)
    if not rules.content_with_calls:
        _note_content_with_calls(turns, mender)
    ids = ToolCallIds(_call_ids(turns)) if rules.nine_character_ids else ToolCallIds()
    if rules.nine_character_ids:
        turns = [_with_nine(turn, ids, mender) for turn in turns]
    system, turns = _fold_system(turns) if rules.fold_system else (None, turns)
    if rules.user_first and not (turns and isinstance(turns[0].message, UserMessage)):
        mender.mend(turns[0].index if turns else None, "is no user's", "an empty user message was put in front")
        turns.insert(0, Turn(UserMessage(""), None, "normalizer"))
    _check_end(turns, rules, mender, add_generation_prompt)
    return Conversation(tuple(turns), system, ids, tuple(mender.repairs))


def _settle_prefixes(turns: list[Turn], mender: Mender) -> list[Turn]:
    """Only the last message can be a prefix; an earlier one has been answered and is an answer like any other."""
    settled = []
    for position, turn in enumerate(turns):
        if isinstance(turn.message, AssistantMessage) and turn.message.prefix and position < len(turns) - 1:
            mender.mend(turn.index, "is a prefix but not the last message", "it was taken as a complete answer")
            turn = replace(turn, message=replace(turn.message, prefix=False))
        settled.append(turn)
    return settled


def _drop_empty_answers(turns: list[Turn], mender: Mender) -> list[Turn]:
    kept = []
    for turn in turns:
        message = turn.message
        if isinstance(message, AssistantMessage) and not message.content and not message.tool_calls:
            if not message.prefix:
                mender.mend(turn.index, "(assistant) has neither content nor tool calls", "it was left out")
            continue
        kept.append(turn)
    return kept


def _guard(turns: list[Turn]) -> list[Turn]:
    """The guardrail as the system message, or at the head of the one that begins the conversation."""
    if turns and isinstance(turns[0].message, SystemMessage):
        content = JOIN.join(filter(None, (SAFE_PROMPT, turns[0].message.content)))
        return [Turn(SystemMessage(content), turns[0].index, f"safe_prompt+{turns[0].origin}"), *turns[1:]]
    return [Turn(SystemMessage(SAFE_PROMPT), None, "safe_prompt"), *turns]


def _merge_turns(turns: list[Turn], mender: Mender) -> list[Turn]:
    """Users in a row and assistants in a row become one; empty texts vanish, the others are joined by a blank line."""
    merged: list[Turn] = []
    for turn in turns:
        last = merged[-1] if merged else None
        joined = _join(last.message, turn.message) if last else None
        if last is None or joined is None:
            merged.append(turn)
            continue
        mender.mend(turn.index, f"follows another of the role {turn.message.role}", "the two were merged")
        merged[-1] = Turn(joined, last.index, f"{last.origin}+{turn.origin}")
    return merged


def _join(first: Message, second: Message) -> Message | None:
    content = JOIN.join(filter(None, (first.content, second.content)))
    if isinstance(first, UserMessage) and isinstance(second, UserMessage):
        return UserMessage(content)
    if isinstance(first, AssistantMessage) and isinstance(second, AssistantMessage):
        return AssistantMessage(content, first.tool_calls + second.tool_calls, second.prefix)
    return None


def _note_content_with_calls(turns: list[Turn], mender: Mender) -> None:
    for turn in turns:
        if isinstance(turn.message, AssistantMessage) and turn.message.content and turn.message.tool_calls:
            mender.mend(turn.index, "has content and tool calls", "the calls were written right behind the text")


def _call_ids(turns: list[Turn]) -> list[str]:
    ids = [call.id or "" for t in turns if isinstance(t.message, AssistantMessage) for call in t.message.tool_calls]
    return ids + [turn.message.tool_call_id or "" for turn in turns if isinstance(turn.message, ToolMessage)]


def _with_nine(turn: Turn, ids: ToolCallIds, mender: Mender) -> Turn:
    message = turn.message

    def nine(call_id: str | None) -> str:
        ours = turn.index is None
        if not ours and (call_id is None or not is_mistral_id(call_id)):
            wrong = f"has the tool call id {call_id!r}, which is not nine letters and digits"
            mender.mend(turn.index, wrong, "it was mapped to one that is")
        return ids.inward(call_id or f"none:{turn.index}")

    if isinstance(message, AssistantMessage) and message.tool_calls:
        calls = tuple(replace(call, id=nine(call.id)) for call in message.tool_calls)
        return replace(turn, message=replace(message, tool_calls=calls))
    if isinstance(message, ToolMessage):
        return replace(turn, message=replace(message, tool_call_id=nine(message.tool_call_id)))
    return turn


def _fold_system(turns: list[Turn]) -> tuple[Turn | None, list[Turn]]:
    """All system texts as one, and the turns without them."""
    systems = [turn for turn in turns if isinstance(turn.message, SystemMessage)]
    others = [turn for turn in turns if not isinstance(turn.message, SystemMessage)]
    spoken = [turn for turn in systems if turn.message.content]
    if not spoken:
        return None, others
    content = JOIN.join(turn.message.content for turn in spoken)
    return Turn(SystemMessage(content), spoken[0].index, "+".join(turn.origin for turn in spoken)), others


def _check_order(turns: list[Turn], rules: FormatRules, mender: Mender) -> None:
    """Refuse, in strict mode, system messages where a format with alternating roles does not have them."""
    if not rules.merge_turns:
        return
    previous = None
    for position, turn in enumerate(turns):
        if isinstance(turn.message, SystemMessage):
            if rules.fold_system and position:
                mender.mend(turn.index, "is a system message that does not come first", "it was moved")
            if previous in ("assistant", "tool"):
                mender.mend(turn.index, f"is a system message behind one of the role {previous}", "it was left there")
        previous = turn.message.role


def _check_end(turns: list[Turn], rules: FormatRules, mender: Mender, add_generation_prompt: bool) -> None:
    last = turns[-1] if turns else None
    if last is None:
        raise mender.error(None, "nothing is left to write", "give a user message with some content")
    if not add_generation_prompt or not isinstance(last.message, AssistantMessage) or last.message.prefix:
        return
    wrong = "is a complete answer of the assistant, so there is nothing to answer"
    remedy = "end with a user or tool message, or set prefix to true on the last message to have it continued"
    if not rules.answer_after_answer:
        raise mender.error(last.index, wrong, remedy)
    mender.mend(last.index, wrong, "another answer was asked for")
