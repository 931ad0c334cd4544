"""How Llama 3.1 and 3.2 are told of custom tools, and how they call tools. Sources: the checkpoints' chat template and
the prompt_format.md documents of Meta's llama-models.
"""

from __future__ import annotations

import json
import keyword
from collections.abc import Mapping, Sequence
from typing import Any

from ostro.chat.jsontext import dump, tool_object
from ostro.chat.messages import Tool

_ANSWER_IN_JSON = (
    'Respond in the format {"name": function name, "parameters": dictionary of argument name and its value}.'
    "Do not use variables.\n\n"
)


class PythonicError(ValueError):
    """A call that is no Python expression."""


def template_instructions(tools: Sequence[Tool], *, in_user_message: bool) -> str:
    """The guidance and the definitions that the checkpoints' template writes, up to the text that follows."""
    lead = (
        "Given the following functions, please respond with a JSON for a function call "
        "with its proper arguments that best answers the given prompt.\n\n"
        if in_user_message
        else "You have access to the following functions. "
        "To call a function, please respond with JSON for a function call."
    )
    definitions = "".join(f"{json.dumps(tool_object(tool), ensure_ascii=False, indent=4)}\n\n" for tool in tools)
    return f"{lead}{_ANSWER_IN_JSON}{definitions}"


def meta_json_instructions(tools: Sequence[Tool]) -> str:
    """The user message with custom tools of Meta's Llama 3.1 document (JSON based tool calling)."""
    definitions = "\n".join(_spread(tool_object(tool)) for tool in tools)
    return (
        "Answer the user's question by making use of the following functions if needed.\n"
        "If none of the function can be used, please say so.\n"
        "Here is a list of functions in JSON format:\n"
        f"{definitions}\n\n"
        "Return function calls in JSON format."
    )


def pythonic_instructions(tools: Sequence[Tool]) -> str:
    """The system text with custom tools of Meta's Llama 3.2 document (zero shot function calling)."""
    definitions = json.dumps([tool_object(tool)["function"] for tool in tools], ensure_ascii=False, indent=4)
    return (
        "You are an expert in composing functions. You are given a question and a set of possible functions.\n"
        "Based on the question, you will need to make one or more function/tool calls to achieve the purpose.\n"
        "If none of the function can be used, point it out. If the given question lacks the parameters required by the "
        "function,\nalso point it out. You should only return the function call in tools call sections.\n\n"
        "If you decide to invoke any of the function(s), you MUST put it in the format of "
        "[func_name1(params_name1=params_value1, params_name2=params_value2...), func_name2(params)]\n"
        "You SHOULD NOT include any other text in the response.\n\n"
        f"Here is a list of functions in JSON format that you can invoke.\n\n{definitions}"
    )


def builtin_call(name: str, arguments: Any) -> str:
    """`brave_search.call(query="...")`; as published, quotes inside a value are not escaped."""
    values = arguments if isinstance(arguments, Mapping) else {"query": arguments}
    written = (f'{key}="{value if isinstance(value, str) else dump(value)}"' for key, value in values.items())
    return f"{name}.call({', '.join(written)})"


def meta_json_call(name: str, arguments: Any) -> str:
    """A call as llama-models writes it: one line of JSON, escaped to ASCII."""
    return json.dumps({"type": "function", "name": name, "parameters": arguments})


def pythonic_calls(calls: Sequence[tuple[str, Any]]) -> str:
    """`[f(a=1), g(b="x")]`. PythonicError where a name or a key is no Python identifier."""
    return f"[{', '.join(_pythonic_call(name, arguments) for name, arguments in calls)}]"


def _pythonic_call(name: str, arguments: Any) -> str:
    if not isinstance(arguments, Mapping):
        raise PythonicError(f"the arguments of {name!r} are no JSON object")
    for identifier in (*name.split("."), *arguments):
        if not identifier.isidentifier() or keyword.iskeyword(identifier):
            raise PythonicError(f"{identifier!r} is no identifier")
    return f"{name}({', '.join(f'{key}={pythonic_literal(value)}' for key, value in arguments.items())})"


def pythonic_literal(value: Any) -> str:
    """A Python literal, strings in double quotes."""
    if isinstance(value, str):
        return dump(value)
    if isinstance(value, list):
        return f"[{', '.join(map(pythonic_literal, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{dump(key)}: {pythonic_literal(item)}' for key, item in value.items())}}}"
    return str(value)


def _spread(value: Any, indent: int = 0) -> str:
    """JSON over several lines, lists of plain values on one: the layout of Meta's Llama 3.1 document."""
    inner, outer = " " * (indent + 4), " " * indent
    if isinstance(value, Mapping) and value:
        items = [f"{inner}{dump(str(key))}: {_spread(item, indent + 4)}" for key, item in value.items()]
        return "{\n" + ",\n".join(items) + f"\n{outer}}}"
    if isinstance(value, list) and any(isinstance(item, (Mapping, list)) for item in value):
        return "[\n" + ",\n".join(f"{inner}{_spread(item, indent + 4)}" for item in value) + f"\n{outer}]"
    return dump(value)
