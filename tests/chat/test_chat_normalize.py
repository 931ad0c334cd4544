"""What the normalizer mends, what strict mode says instead, and ids of tool calls."""

from __future__ import annotations

from typing import Any

import pytest
from conversations import conversations
from hypothesis import given, settings
from hypothesis import strategies as st

from ostro.chat import AssistantMessage, Message, ToolCallIds, ToolMessage, named_format, parse_messages
from ostro.chat.normalize import SAFE_PROMPT, Conversation, normalize
from ostro.chat.pairing import CANCELLED
from ostro.chat.tool_ids import is_mistral_id
from ostro.errors import PromptError

NINE = "abcdefghi"


def user(text: str = "?") -> dict[str, Any]:
    return {"role": "user", "content": text}


def said(text: str = "!", **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


def calls(*named: tuple[str | None, str], **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "tool_calls": [{"id": i, "function": {"name": n}} for i, n in named], **more}


def result(text: str = "r", **keys: Any) -> dict[str, Any]:
    return {"role": "tool", "content": text, **keys}


def run(messages: list[dict[str, Any]], form: str = "mistral-v7", **options: Any) -> Conversation:
    return normalize(parse_messages(messages), named_format(form).rules, **options)


def roles(conversation: Conversation) -> list[str]:
    return [turn.message.role for turn in conversation.turns]


def texts(conversation: Conversation) -> list[str]:
    return [turn.message.content for turn in conversation.turns]


def contents(conversation: Conversation) -> list[Message]:
    return [turn.message for turn in conversation.turns]


# messages, the index that strict mode names, and the contents of the turns after mending.
REPAIRS: dict[str, tuple[list[dict[str, Any]], int, list[str]]] = {
    "users in a row": ([user("a"), user("b")], 1, ["a\n\nb"]),
    "answers in a row": ([user("a"), said("b"), said("c"), user("d")], 2, ["a", "b\n\nc", "d"]),
    "empty answer": ([user("a"), said(""), user("b")], 1, ["a\n\nb"]),
    "earlier prefix": ([user("a"), said("b", prefix=True), user("c")], 1, ["a", "b", "c"]),
    "unanswered call": ([user("a"), calls((NINE, "f")), user("b")], 1, ["a", "", CANCELLED, "b"]),
    "last call unanswered": ([user("a"), calls((NINE, "f"))], 1, ["a", "", CANCELLED]),
    "late result": (
        [user("a"), calls((NINE, "f")), user("b"), result("r", tool_call_id=NINE)],
        3,
        ["a", "", "r", "b"],
    ),
    "orphan": ([user("a"), said("b"), result("r", tool_call_id=NINE), user("c")], 2, ["a", "b", "r", "c"]),
    "foreign id": ([user("a"), calls(("call_1", "f")), result("r", tool_call_id="call_1")], 1, ["a", "", "r"]),
    "no id": ([user("a"), calls((NINE, "f")), result("r", name="f")], 2, ["a", "", "r"]),
    "system behind an answer": (
        [user("a"), said("b"), {"role": "system", "content": "s"}, user("c")],
        2,
        ["a", "b", "s", "c"],
    ),
}


@pytest.mark.parametrize("name", REPAIRS)
def test_repair_and_refusal(name: str) -> None:
    messages, index, expected = REPAIRS[name]
    conversation = run(messages)
    assert texts(conversation) == expected
    with pytest.raises(PromptError, match=rf"messages\[{index}\]") as caught:
        run(messages, strict=True)
    assert caught.value.index == index
    if name != "system behind an answer":  # v7 writes it where it stands, which mends nothing
        assert conversation.repairs[0].startswith(f"messages[{index}]")


def test_nothing_is_mended_in_an_orderly_conversation() -> None:
    messages = [
        {"role": "developer", "content": "s"},
        user(),
        calls((NINE, "f")),
        result(tool_call_id=NINE),
        said(),
        user(),
    ]
    for form in ("mistral-v3", "mistral-v7", "llama-3.1", "llama-3.1-meta"):
        assert run(messages, form, strict=True).repairs == ()


@settings(max_examples=60)
@given(
    messages=conversations(with_calls=True, content_with_calls=True), form=st.sampled_from(["mistral-v3", "mistral-v7"])
)
def test_normalizing_again_changes_nothing(messages: list[dict[str, Any]], form: str) -> None:
    rules = named_format(form).rules
    once = normalize(parse_messages(messages), rules)
    again = normalize(contents(once), rules)
    assert contents(again) == contents(once)


def test_system_is_folded_where_the_version_demands() -> None:
    messages = [{"role": "system", "content": "s"}, user("a"), said("b"), {"role": "system", "content": "t"}, user("c")]
    conversation = run(messages, "mistral-v3")
    assert conversation.system is not None
    assert conversation.system.message.content == "s\n\nt"
    assert texts(conversation) == ["a", "b", "c"]
    assert run(messages, "mistral-v7").system is None
    with pytest.raises(PromptError) as caught:
        run(messages, "mistral-v3", strict=True)
    assert caught.value.index == 3


def test_a_user_is_put_in_front_where_one_must_be() -> None:
    assert roles(run([said("a"), user("b")], "mistral-v3")) == ["user", "assistant", "user"]
    assert roles(run([said("a"), user("b")], "mistral-v7")) == ["assistant", "user"]
    with pytest.raises(PromptError) as caught:
        run([said("a"), user("b")], "mistral-v1", strict=True)
    assert caught.value.index == 0


def test_a_complete_answer_is_not_answered() -> None:
    for strict in (False, True):
        with pytest.raises(PromptError, match="prefix to true") as caught:
            run([user(), said()], strict=strict)
        assert caught.value.index == 1
    assert texts(run([user("a"), said("b")], add_generation_prompt=False)) == ["a", "b"]
    assert roles(run([user("a"), said("b")], "llama-3.1")) == ["user", "assistant"]


def test_nothing_left_is_refused() -> None:
    with pytest.raises(PromptError, match="nothing is left"):
        run([said("")])


def test_open_calls_at_the_end_stay_open_in_training() -> None:
    assert roles(run([user(), calls((NINE, "f"))], add_generation_prompt=False)) == ["user", "assistant"]


def test_results_with_names_only_are_matched_by_name_then_by_order() -> None:
    messages = [
        user(),
        calls(("a", "f"), ("b", "g"), ("c", "g")),
        result("1", name="g"),
        result("2"),
        result("3", name="g"),
    ]
    answers = [m for m in contents(run(messages)) if isinstance(m, ToolMessage)]
    outward = run(messages).tool_call_ids.outward
    assert [(m.content, m.name, outward(m.tool_call_id or "")) for m in answers] == [
        ("1", "g", "b"),
        ("2", "f", "a"),
        ("3", "g", "c"),
    ]


def test_calls_without_ids_get_some() -> None:
    conversation = run([user(), calls((None, "f"), (None, "g")), result("2", name="g"), result("1", name="f")])
    call_message, *answers = contents(conversation)[1:]
    assert isinstance(call_message, AssistantMessage)
    ids = [call.id or "" for call in call_message.tool_calls]
    assert all(map(is_mistral_id, ids))
    assert [m.tool_call_id for m in answers if isinstance(m, ToolMessage)] == ids[::-1]


def test_the_same_id_in_several_turns_is_answered_turn_by_turn() -> None:
    messages = [
        user(),
        calls(("c0", "f")),
        result("1", tool_call_id="c0"),
        calls(("c0", "f")),
        result("2", tool_call_id="c0"),
    ]
    assert texts(run(messages)) == ["?", "", "1", "", "2"]


def test_safe_prompt() -> None:
    assert SAFE_PROMPT.startswith("Always assist with care, respect, and truth.")
    assert texts(run([user("a")], safe_prompt=True)) == [SAFE_PROMPT, "a"]
    system = {"role": "system", "content": "s"}
    assert texts(run([system, user("a")], safe_prompt=True)) == [f"{SAFE_PROMPT}\n\ns", "a"]
    assert run([system, user("a")], safe_prompt=True, strict=True).turns[0].origin == "safe_prompt+system[0]"
    folded = run([system, user("a")], "mistral-v3", safe_prompt=True)
    assert folded.system is not None
    assert folded.system.message.content == f"{SAFE_PROMPT}\n\ns"


class TestToolCallIds:
    def test_nine_characters_stay(self) -> None:
        assert ToolCallIds().inward(NINE) == NINE
        assert ToolCallIds().outward(NINE) == NINE

    def test_the_map_is_the_same_everywhere(self) -> None:
        assert ToolCallIds().inward("call_abc") == ToolCallIds(["x", NINE]).inward("call_abc")

    @given(st.lists(st.text(max_size=12), unique=True))
    def test_one_to_one(self, foreign: list[str]) -> None:
        ids = ToolCallIds()
        nine = [ids.inward(i) for i in foreign]
        assert all(map(is_mistral_id, nine))
        assert len(set(nine)) == len(foreign)
        assert [ids.outward(n) for n in nine] == foreign
        assert [ids.inward(i) for i in foreign] == nine

    def test_a_taken_id_is_not_given_twice(self) -> None:
        digest = ToolCallIds().inward("call_abc")
        ids = ToolCallIds([digest])
        assert ids.inward("call_abc") != digest
        assert ids.outward(ids.inward("call_abc")) == "call_abc"
        assert ids.outward(digest) == digest
        late = ToolCallIds()
        late.inward("call_abc")
        assert late.inward(digest) != digest
        assert late.outward(late.inward(digest)) == digest
