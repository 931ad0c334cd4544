"""The rules of a grammar for calls, one class for each way of writing them (`ostro.chat.call_styles`)."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ostro.chat.call_json import GAP, json_head
from ostro.chat.call_schemas import arguments_schema, call_schema, either_schema, enforceable
from ostro.chat.call_styles import CallStyle
from ostro.chat.grammar import ANY_TEXT, Grammar, any_of, json_of, literal, pattern, token
from ostro.chat.grammar_python import add_python_literals, python_arguments
from ostro.chat.jsontext import dump
from ostro.chat.messages import Tool
from ostro.tokenizer.base import Tokenizer


class CallRules(Protocol):
    """Bodies of rules, alternatives of each other. Every one is a whole answer's calls."""

    def only(self) -> list[str]:
        """Calls from the first character on."""

    def marked(self) -> list[str]:
        """Calls that begin with a control token, so that they may stand behind any text."""

    def triggered(self) -> list[str]:
        """Calls behind a lazy text that ends as soon as it can be nothing but the beginning of a call."""

    def beside_json(self, schema: Mapping[str, Any]) -> list[str]:
        """JSON of a schema, or a call as in `triggered`."""


@dataclass(frozen=True)
class _Offer:
    """What may be called: `tools` and `builtins`, several at once if `parallel`.

    `in_ipython`: the prompt has built-in tools, though the choice may have left them out.
    """

    grammar: Grammar
    tokenizer: Tokenizer
    tools: Sequence[Tool]
    builtins: Sequence[str]
    parallel: bool
    in_ipython: bool

    @property
    def lead(self) -> str:
        """What may stand before an unmarked call.

        Nothing but spaces, so that the model may speak about calls elsewhere; a strict tool is guarded everywhere.
        """
        return "(?s:.*)" if any(tool.strict for tool in self.tools) else "[ \\n]*"

    def control(self, name: str) -> str:
        """A control token."""
        return token(self.tokenizer.control_id(name))

    def has(self, name: str) -> bool:
        """Whether the vocabulary has a control token."""
        return name in self.tokenizer.control_tokens

    def space(self) -> str:
        """SentencePiece's dummy space, which stands before text behind a control token, but not in the first text."""
        return '" "? ' if self.tokenizer.dummy_prefix else ""

    def several(self, name: str, bodies: Sequence[str], separator: str) -> str:
        """One of the bodies, or with `parallel` any number of them."""
        one = self.grammar.add(name, any_of(bodies))
        return f"{one} ({separator} {one})*" if self.parallel else one

    def arguments(self, tool: Tool) -> str:
        """JSON of a tool's arguments: a rule, since several ways of calling share it."""
        name = f"arguments_{[each.name for each in self.tools].index(tool.name)}"
        if name in self.grammar:
            return name
        return self.grammar.add(name, json_of(arguments_schema(tool), lenient=not tool.strict))


class _Mistral(ABC):
    """What both ways of Mistral have in common: every call is marked."""

    def __init__(self, offer: _Offer) -> None:
        self._offer = offer

    def only(self) -> list[str]:
        """As `marked`."""
        return self.marked()

    @abstractmethod
    def marked(self) -> list[str]:
        """As `marked` of the rules; each way has its own."""

    def triggered(self) -> list[str]:
        """None: without its control token a call is text."""
        return []

    def beside_json(self, schema: Mapping[str, Any]) -> list[str]:
        """The JSON alone."""
        return [json_of(schema, lenient=False)]


class _MistralList(_Mistral):
    """`[TOOL_CALLS] [{"name": "f", "arguments": {...}, "id": "..."}]`; the models leave the id out at times."""

    def marked(self) -> list[str]:
        """The list."""
        offer = self._offer
        call_id = offer.grammar.add("CALL_ID", "/[a-zA-Z0-9]{9}/")
        end = offer.grammar.add("call_end", f'(", \\"id\\": \\"" {call_id} "\\"")? "}}"')
        bodies = [f"{_opening(tool, 'arguments')} {offer.arguments(tool)} {end}" for tool in offer.tools]
        calls = offer.several("call", bodies, '", "')
        return [f'{offer.control("[TOOL_CALLS]")} {offer.space()}"[" {calls} "]"']


class _MistralArgs(_Mistral):
    """`[TOOL_CALLS] f [CALL_ID] id [ARGS] {...}`; the id where the vocabulary has its token, and not always then."""

    def marked(self) -> list[str]:
        """Each call with its own tokens."""
        return [self._offer.several("call", [self._call(tool) for tool in self._offer.tools], "")]

    def _call(self, tool: Tool) -> str:
        offer = self._offer
        call_id = f"({offer.control('[CALL_ID]')} {offer.space()}/[a-zA-Z0-9]{{9}}/)?" if offer.has("[CALL_ID]") else ""
        begin = f"{offer.control('[TOOL_CALLS]')} {offer.space()}{literal(tool.name)} {call_id}"
        return f"{begin} {offer.control('[ARGS]')} {offer.space()}{offer.arguments(tool)}"


class _LlamaJson:
    """`{"name": "f", "parameters": {...}}`, with a type in front after Meta's documents (`typed`).

    In the ipython environment, that is with built-in tools, those documents have <|python_tag|> before every call.
    """

    def __init__(self, offer: _Offer, *, typed: bool) -> None:
        self._offer = offer
        self._typed = typed

    def only(self) -> list[str]:
        """As the format writes them."""
        tag = f"{self._offer.control(_TAG)} " if self._typed and self._offer.in_ipython else ""
        return [*(f"{tag}{self._call(tool)}" for tool in self._offer.tools), *_tagged_builtins(self._offer)]

    def marked(self) -> list[str]:
        """Behind <|python_tag|>: built-in calls, and custom ones too."""
        if not self._offer.has(_TAG):
            return []
        tag = self._offer.control(_TAG)
        return [*(f"{tag} {self._call(tool)}" for tool in self._offer.tools), *_tagged_builtins(self._offer)]

    def triggered(self) -> list[str]:
        """Behind `{"name": "f"` of a known tool, which nothing but a call begins with."""
        offer, bodies = self._offer, []
        for number, tool in enumerate(offer.tools):
            begin, rest = json_head(tool.name)
            head = offer.grammar.add(f"head_{number}[lazy]", pattern(offer.lead + begin))
            bodies.append(f"{head} {pattern(rest)} {offer.arguments(tool)} {pattern(GAP + '[}]')}")
        return bodies

    def beside_json(self, schema: Mapping[str, Any]) -> list[str]:
        """One schema for both: they begin alike, and llguidance does not go back to choose again."""
        calls = [call_schema(enforceable(tool), "parameters", typed=self._typed) for tool in self._offer.tools]
        return [json_of(either_schema(calls, schema), lenient=False)]

    def _call(self, tool: Tool) -> str:
        kind = '"type": "function", ' if self._typed else ""
        return f'{_opening(tool, "parameters", kind)} {self._offer.arguments(tool)} "}}"'


class _LlamaPythonic:
    """`[f(a=1), g(b="x")]`; built-in calls are marked."""

    def __init__(self, offer: _Offer) -> None:
        self._offer = offer
        add_python_literals(offer.grammar)
        self._arguments = [python_arguments(offer.grammar, f"args_{n}", tool) for n, tool in enumerate(offer.tools)]

    def only(self) -> list[str]:
        """The list."""
        return [*([f'"[" {self._calls()} "]"'] if self._offer.tools else []), *self.marked()]

    def marked(self) -> list[str]:
        """Built-in calls."""
        return _tagged_builtins(self._offer)

    def triggered(self) -> list[str]:
        """Behind `[f(` of a known tool."""
        offer, bodies = self._offer, []
        for number, (tool, arguments) in enumerate(zip(offer.tools, self._arguments, strict=True)):
            head = pattern(f"{offer.lead}\\[{re.escape(f'{tool.name}(')}")
            bodies.append(f'{offer.grammar.add(f"head_{number}[lazy]", head)} {arguments} ")"')
        more = f' (", " {self._calls()})?' if self._offer.parallel and bodies else ""
        return [f'{any_of(bodies)}{more} "]"'] if bodies else []

    def beside_json(self, schema: Mapping[str, Any]) -> list[str]:
        """Two ways that part at the second character."""
        return [json_of(schema, lenient=False), *self.triggered()]

    def _calls(self) -> str:
        pairs = zip(self._offer.tools, self._arguments, strict=True)
        bodies = [f'{literal(f"{tool.name}(")} {arguments} ")"' for tool, arguments in pairs]
        return self._offer.several("py_call", bodies, '", "')


class _Tags:
    """`<tool_call>{"name": "f", "arguments": {...}}</tool_call>`, as some fine-tunes' templates have it."""

    def __init__(self, offer: _Offer) -> None:
        self._offer = offer
        bodies = [f"{_opening(tool, 'arguments')} {offer.arguments(tool)}" for tool in offer.tools]
        self._inside = offer.grammar.add(
            "inside", f'{pattern(GAP)} {any_of(bodies)} "}}" {pattern(GAP)} "</tool_call>"'
        )

    def only(self) -> list[str]:
        """From the first tag on."""
        return [f'"<tool_call>" {self._inside}{self._more}']

    def marked(self) -> list[str]:
        """None: the tags are text."""
        return []

    def triggered(self) -> list[str]:
        """Behind a tag, wherever it stands."""
        head = self._offer.grammar.add("head[lazy]", pattern("(?s:.*)<tool_call>"))
        return [f"{head} {self._inside}{self._more}"]

    def beside_json(self, schema: Mapping[str, Any]) -> list[str]:
        """JSON begins with no tag."""
        return [json_of(schema, lenient=False), *self.only()]

    @property
    def _more(self) -> str:
        return f" ({pattern(GAP + '<tool_call>')} {self._inside})*" if self._offer.parallel else ""


_TAG = "<|python_tag|>"


def call_rules(
    style: CallStyle,
    grammar: Grammar,
    tokenizer: Tokenizer,
    tools: Sequence[Tool],
    builtins: Sequence[str],
    *,
    parallel: bool,
    in_ipython: bool,
) -> CallRules:
    """The rules of a style; what they refer to is added to `grammar`."""
    offer = _Offer(grammar, tokenizer, tools, builtins, parallel, in_ipython)
    match style:
        case "mistral-list":
            return _MistralList(offer)
        case "mistral-args":
            return _MistralArgs(offer)
        case "llama-pythonic":
            return _LlamaPythonic(offer)
        case "tags":
            return _Tags(offer)
        case _:
            return _LlamaJson(offer, typed=style == "llama-meta")


def _opening(tool: Tool, key: str, kind: str = "") -> str:
    return literal(f'{{{kind}"name": {dump(tool.name)}, "{key}": ')


def _tagged_builtins(offer: _Offer) -> list[str]:
    """`brave_search.call(query="...")`, or code; the format escapes nothing, so a query has no quotes."""
    bodies = []
    for name in offer.builtins:
        call = f'{literal(f"{name}.call(query=")} "\\"" /[^"\\n]+/ "\\")"'
        bodies.append(f"{offer.control(_TAG)} {ANY_TEXT if name == 'code_interpreter' else call}")
    return bodies
