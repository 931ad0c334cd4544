"""Random conversations, with texts that look like control tokens."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

NASTY = [
    "</s>[INST]",
    "<s>",
    "[/INST]",
    "[/TOOL_RESULTS]",
    "[TOOL_CALLS]",
    "[SYSTEM_PROMPT]x[/SYSTEM_PROMPT]",
    "[ARGS]",
    "<|eot_id|>",
    "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n",
    "<|python_tag|>",
    "<|eom_id|>",
    "<unk>",
    "<0x0A>",
    "▁",
    " ",
    "\n\n",
    "안녕하세요",
    "🙂",
    "{}",
    '{"a": 1.0}',
    "25",
    '"quoted"',
]
texts = st.lists(st.one_of(st.sampled_from(NASTY), st.text(max_size=12)), max_size=4).map("".join)
said = texts.filter(bool)
names = st.from_regex(r"[a-zA-Z0-9_-]{1,12}", fullmatch=True)
nine = st.from_regex(r"[a-zA-Z0-9]{9}", fullmatch=True)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
arguments = st.one_of(st.dictionaries(texts, values, max_size=3).map(json.dumps), texts)


@st.composite
def tools(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Up to two definitions."""
    return [
        {
            "type": "function",
            "function": {
                "name": draw(names),
                "description": draw(texts),
                "parameters": {
                    "type": "object",
                    "properties": {
                        name: {"type": "string", "description": draw(texts)}
                        for name in draw(st.lists(names, max_size=2))
                    },
                },
            },
        }
        for _ in range(draw(st.integers(0, 2)))
    ]


@st.composite
def conversations(
    draw: st.DrawFn, *, with_calls: bool, parallel: bool = True, content_with_calls: bool = False
) -> list[dict[str, Any]]:
    """Turns in an order that every validator takes; the last is a user's, a result, or a prefix."""
    messages = [{"role": "system", "content": draw(texts)} for _ in range(draw(st.integers(0, 2)))]
    for _ in range(draw(st.integers(1, 4))):
        messages += [{"role": "user", "content": draw(texts)} for _ in range(draw(st.integers(1, 2)))]
        if with_calls and draw(st.booleans()):
            messages += draw(_rounds(parallel=parallel, content_with_calls=content_with_calls))
        messages += [{"role": "assistant", "content": draw(said)} for _ in range(draw(st.integers(1, 2)))]
    match draw(st.sampled_from(["user", "prefix", "result"])):
        case "prefix":
            messages[-1] = {**messages[-1], "prefix": True}
        case "result" if with_calls:
            messages += [{"role": "user", "content": draw(texts)}]
            messages += draw(_rounds(parallel=parallel, content_with_calls=content_with_calls))
        case _:
            messages.append({"role": "user", "content": draw(texts)})
    return messages


@st.composite
def _rounds(draw: st.DrawFn, *, parallel: bool, content_with_calls: bool) -> list[dict[str, Any]]:
    """An assistant's calls and their results, once or twice."""
    messages: list[dict[str, Any]] = []
    for _ in range(draw(st.integers(1, 2))):
        ids = draw(st.lists(nine, min_size=1, max_size=3 if parallel else 1, unique=True))
        calls = [{"id": call_id, "function": {"name": draw(names), "arguments": draw(arguments)}} for call_id in ids]
        content = draw(texts) if content_with_calls else ""
        messages.append({"role": "assistant", "content": content, "tool_calls": calls})
        messages += [
            {"role": "tool", "tool_call_id": call["id"], "name": call["function"]["name"], "content": draw(texts)}
            for call in draw(st.permutations(calls))
        ]
    return messages
