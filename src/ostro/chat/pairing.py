"""Tool calls and their results: each result to its call, each call with one result."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ostro.chat.messages import AssistantMessage, ToolCall, ToolMessage
from ostro.chat.rules import FormatRules, Mender, Turn

CANCELLED = "The call was cancelled and has no result."
"""The result that the normalizer writes for a call that was never answered."""


@dataclass
class _Block:
    """An assistant's turn with calls; `results[n]` answers call n, in the order in which the results came."""

    turn: Turn
    calls: tuple[ToolCall, ...]
    results: dict[int, Turn] = field(default_factory=dict)

    def unanswered(self) -> list[int]:
        return [n for n in range(len(self.calls)) if n not in self.results]


def pair_results(turns: list[Turn], rules: FormatRules, mender: Mender, add_generation_prompt: bool) -> list[Turn]:
    """The turns with every result right behind its call, and every call closed that something follows.

    Where the format wants ids of nine characters a call without an id gets a placeholder, which is mapped later;
    elsewhere it stays without.

    A result finds its call by its id; without one by its name, then by the order of the calls. One that comes late is
    moved to its call; one that answers no call stays where it is. An unanswered call gets a result that says so, unless
    it ends the conversation and no answer is asked for.
    """
    blocks: list[_Block] = []
    laid: list[Turn | _Block] = []
    for turn in turns:
        message = turn.message
        if isinstance(message, AssistantMessage) and message.tool_calls:
            _check_tools(turn, rules, mender)
            block = _Block(turn, _identified(turn, message) if rules.nine_character_ids else message.tool_calls)
            blocks.append(block)
            laid.append(block)
        elif isinstance(message, ToolMessage):
            _check_tools(turn, rules, mender)
            if not _place_result(turn, message, blocks, laid[-1] if laid else None, rules, mender):
                mender.mend(turn.index, "is the result of no call that was made", "it was left where it stands")
                laid.append(turn)
        else:
            laid.append(turn)
    paired: list[Turn] = []
    for position, item in enumerate(laid):
        if isinstance(item, Turn):
            paired.append(item)
        else:
            _close(item, mender, ends=position == len(laid) - 1, add_generation_prompt=add_generation_prompt)
            paired += _flatten(item, rules, mender)
    return paired


def _identified(turn: Turn, message: AssistantMessage) -> tuple[ToolCall, ...]:
    calls = enumerate(message.tool_calls)
    return tuple(call if call.id else replace(call, id=f"none:{turn.index}:{n}") for n, call in calls)


def _check_tools(turn: Turn, rules: FormatRules, mender: Mender) -> None:
    if not rules.tools:
        raise mender.error(
            turn.index,
            "has tool calls or results, which this format cannot write",
            "leave them out, or use a model with tools",
        )


def _place_result(
    turn: Turn,
    message: ToolMessage,
    blocks: list[_Block],
    last: Turn | _Block | None,
    rules: FormatRules,
    mender: Mender,
) -> bool:
    found = _find_call(message, blocks)
    if found is None:
        return False
    block, number = found
    if message.tool_call_id is None and rules.nine_character_ids:
        mender.mend(turn.index, "has no tool_call_id", "it was matched to its call by name and order")
    if block is not last:
        mender.mend(turn.index, "is the result of an earlier call", "it was moved to its call")
    call = block.calls[number]
    answer = ToolMessage(message.content, call.id or message.tool_call_id, message.name or call.name)
    block.results[number] = replace(turn, message=answer)
    return True


def _find_call(message: ToolMessage, blocks: list[_Block]) -> tuple[_Block, int] | None:
    """The latest open call of the result's id; failing that, one where either side lacks the id and names agree."""
    open_calls = [(block, number) for block in reversed(blocks) for number in block.unanswered()]
    for block, number in open_calls:
        if message.tool_call_id is not None and block.calls[number].id == message.tool_call_id:
            return block, number
    for block, number in open_calls:
        unidentified = message.tool_call_id is None or _had_no_id(block, number)
        if unidentified and message.name in (None, block.calls[number].name):
            return block, number
    return None


def _had_no_id(block: _Block, number: int) -> bool:
    message = block.turn.message
    assert isinstance(message, AssistantMessage)
    return message.tool_calls[number].id is None


def _close(block: _Block, mender: Mender, *, ends: bool, add_generation_prompt: bool) -> None:
    message = block.turn.message
    assert isinstance(message, AssistantMessage)
    if message.prefix or (ends and not add_generation_prompt):
        return
    for number in block.unanswered():
        call = block.calls[number]
        mender.mend(block.turn.index, f"calls {call.name!r} and has no result for it", "it was closed as cancelled")
        block.results[number] = Turn(ToolMessage(CANCELLED, call.id, call.name), None, "normalizer")


def _flatten(block: _Block, rules: FormatRules, mender: Mender) -> list[Turn]:
    message = block.turn.message
    assert isinstance(message, AssistantMessage)
    if len(block.calls) > 1 and not rules.parallel_calls:
        mender.mend(
            block.turn.index, "makes several calls at once", "they were written one after another, each with its result"
        )
        return _unroll(block, message)
    numbers = sorted(block.results) if rules.sort_results else list(block.results)
    return [replace(block.turn, message=replace(message, tool_calls=block.calls)), *(block.results[n] for n in numbers)]


def _unroll(block: _Block, message: AssistantMessage) -> list[Turn]:
    unrolled: list[Turn] = []
    for number, call in enumerate(block.calls):
        one = AssistantMessage("" if number else message.content, (call,), message.prefix and call is block.calls[-1])
        unrolled.append(replace(block.turn, message=one))
        if number in block.results:
            unrolled.append(block.results[number])
    return unrolled
