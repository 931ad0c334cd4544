"""`tool_choice`, enforced: a grammar that lets the model write calls of the tools it has and nothing that merely looks
like one. The grammar is llguidance's Lark, for `Guided(grammar=...)`.

- "none": text without the control tokens that mark calls.
- "auto": text, or calls. What begins as a call must go on as one: a known tool, arguments after its schema.
- "required", or a tool's name: calls and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ostro.chat.call_rules import CallRules, call_rules
from ostro.chat.call_schemas import with_bounded_schemas
from ostro.chat.call_styles import call_style
from ostro.chat.grammar import ANY_TEXT, Grammar, any_of, json_of, pattern
from ostro.chat.llama import BUILTIN_TOOLS
from ostro.chat.messages import Tool
from ostro.chat.render import ChatFormat
from ostro.errors import PromptError
from ostro.json_schema import cleaned
from ostro.tokenizer.base import Tokenizer

_NAME = re.compile(r"[^\s\"'\\/()<>{}\[\]]{1,128}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentForm:
    """What the text must be where the model does not call: JSON of a schema, or a match of a regular expression."""

    json_schema: Mapping[str, Any] | bool | None = None
    regex: str | None = None


def call_grammar(
    format: ChatFormat,
    tokenizer: Tokenizer,
    tools: Sequence[Tool],
    choice: str = "auto",
    *,
    parallel: bool = True,
    builtin_tools: Sequence[str] = (),
    content: ContentForm | None = None,
) -> str | None:
    """The grammar of a choice; None where nothing needs one.

    `choice` is "auto", "none", "required" or the name of a tool. `parallel` allows several calls at once, where the
    format can write them. `tools` and `builtin_tools` are those of the prompt (with "none" too, though the prompt then
    leaves them out). `content` is the form of the text beside the calls, as `response_format` asks for it.

    The arguments of a call follow the tool's schema; what llguidance does not know of it is left aside, unless the tool
    is `strict`: then the schema is refused, with a RequestError that names the keyword. Where the schemas are very
    large (`call_schemas`), the arguments of tools that are not strict may be any object.

    PromptError for a choice that cannot be kept: a name that no tool has, no tools at all, two tools of one name, or a
    format that does not say how calls are written.
    """
    names = _checked_names(tools, builtin_tools)
    style = call_style(format, tokenizer)
    _check_choice(choice, names)
    if choice == "none" or not names:
        return _content_only(content) if names or content else None
    if style is None:
        raise PromptError(f"The prompt format {format.name} has no tools: leave them out.")
    if style == "unknown":
        _check_unknown(choice, tools, content)
        return None
    wanted = with_bounded_schemas([tool for tool in tools if choice in ("auto", "required", tool.name)])
    builtins = [name for name in builtin_tools if choice in ("auto", "required", name)]
    if style == "llama-pythonic":
        _check_not_strict(wanted, format)
    if "code_interpreter" in builtins and any(tool.strict for tool in wanted):
        raise PromptError(
            "code_interpreter may write any text, calls of a strict tool too: leave one of the two out, or take strict "
            "away."
        )
    grammar = Grammar()
    rules = call_rules(
        style,
        grammar,
        tokenizer,
        wanted,
        builtins,
        parallel=parallel and format.rules.parallel_calls,
        in_ipython=bool(builtin_tools),
    )
    return grammar.text(" | ".join(rules.only()) if choice != "auto" else _text_or_calls(grammar, rules, content))


def _check_choice(choice: str, names: Sequence[str]) -> None:
    if choice not in ("auto", "none", "required", *names):
        raise PromptError(
            f"tool_choice names {choice!r}, and the tools of the request are {', '.join(names) or 'none'}. Choose one "
            "of these, or 'auto', 'none' or 'required'."
        )
    if choice == "required" and not names:
        raise PromptError("tool_choice is 'required', and the request has no tools: give some, or choose 'auto'.")


def _check_not_strict(wanted: Sequence[Tool], format: ChatFormat) -> None:
    """Refuse strict tools where calls are written as Python."""
    strict = [tool.name for tool in wanted if tool.strict]
    if strict:
        raise PromptError(
            f"The tool {strict[0]!r} is strict, and the prompt format {format.name} writes calls as Python, where its "
            "schema cannot be kept whole: take strict away, or use the format llama-3.1."
        )


def _text_or_calls(grammar: Grammar, rules: CallRules, content: ContentForm | None) -> str:
    """The body of "auto": calls that a control token marks may stand behind text."""
    marked = rules.marked()
    calls = [grammar.add("marked", any_of(marked))] if marked else []
    if content is None:
        text = grammar.add("TEXT", ANY_TEXT)
        return " | ".join([f"{text}?", *(f"{text}? {call}" for call in calls), *rules.triggered()])
    if content.json_schema is not None:
        return " | ".join([*rules.beside_json(cleaned(content.json_schema)), *calls])
    return " | ".join([_content(content), *rules.triggered(), *calls])


def _checked_names(tools: Sequence[Tool], builtin_tools: Sequence[str]) -> list[str]:
    for name in builtin_tools:
        if name not in BUILTIN_TOOLS:
            raise PromptError(f"builtin_tools has {name!r}; Llama 3.1 knows {', '.join(BUILTIN_TOOLS)}.")
    names = [*(tool.name for tool in tools), *builtin_tools]
    for position, name in enumerate(names):
        if not _NAME.fullmatch(name) or name in ("auto", "none", "required"):
            raise PromptError(
                f"A tool is called {name!r}; a name has 1 to 128 characters without spaces, quotes, slashes and "
                "brackets, and is not auto, none or required."
            )
        if name in names[:position]:
            raise PromptError(f"Two tools are called {name!r}; names must differ.")
    return names


def _content_only(content: ContentForm | None) -> str:
    return Grammar().text(f"{ANY_TEXT}?" if content is None else _content(content))


def _content(content: ContentForm) -> str:
    if content.regex is not None:
        return pattern(content.regex)
    assert content.json_schema is not None, "a ContentForm has one of its fields"
    return json_of(cleaned(content.json_schema), lenient=False)


def _check_unknown(choice: str, tools: Sequence[Tool], content: ContentForm | None) -> None:
    """A template whose calls we can read but not foresee: only what needs no grammar can be had."""
    strict = [tool.name for tool in tools if tool.strict]
    wish = f"tool_choice {choice!r}" if choice != "auto" else f"the strict tool {strict[0]!r}" if strict else None
    wish = wish or ("a response format beside tools" if content else None)
    if wish:
        raise PromptError(
            f"The checkpoint's own chat template does not tell how calls are written, so {wish} cannot be kept: choose "
            "'auto' without it, or name a prompt format such as mistral-v3 or llama-3.1."
        )
