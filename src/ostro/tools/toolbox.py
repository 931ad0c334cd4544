"""`ToolBox`: tools under policies, and what becomes of a call."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from ostro.chat.jsontext import tool_object
from ostro.chat.messages import Tool, ToolCall
from ostro.errors import OstroError, ToolError
from ostro.log import logger
from ostro.tools.functions import POLICIES, FunctionTool, Policy, as_tool, check_policy, check_timeout
from ostro.tools.hints import ArgumentError

MAX_RESULT_CHARACTERS = 20_000
Status: TypeAlias = Literal["done", "failed", "denied", "timeout"]
Asking: TypeAlias = Callable[[FunctionTool, ToolCall], bool | Literal["always"]]
"""Whether a call may run; "always" stands for this and all later calls of the tool."""


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What became of a call: `content` is what the model gets to read, whatever the `status`."""

    call: ToolCall
    content: str
    status: Status
    seconds: float


class ToolBox:
    """The tools of a conversation.

    `policy` is that of the tools which have none of their own, `policies` has it by name and comes before both.
    Under "ask" a call runs only if `ask(tool, call)` says so. `timeout` bounds a call in seconds, and
    `max_result_characters` its result; what is cut off is told in the result. A thread that has passed its time cannot
    be stopped from outside: it is left to itself, and its result thrown away. An `async def` function is cancelled.

    >>> def add(a: int, b: int) -> int:
    ...     '''The sum.'''
    ...     return a + b
    >>> box = ToolBox([add], policy="allow")
    >>> box.run(ToolCall("add", '{"a": 2, "b": 3}')).content
    '5'
    >>> box.run(ToolCall("add", '{"a": 2}')).content
    'Error: b is missing.'

    ToolError for two tools of one name, an unknown name in `policies`, or "ask" without anybody to ask.
    """

    def __init__(
        self,
        tools: Iterable[FunctionTool | Callable[..., Any]],
        *,
        policy: Policy = "ask",
        policies: Mapping[str, Policy] | None = None,
        ask: Asking | None = None,
        timeout: float = 30.0,
        max_result_characters: int = MAX_RESULT_CHARACTERS,
    ) -> None:
        check_policy(policy, "the tools")
        check_timeout(timeout, "the tools")
        self._tools: dict[str, FunctionTool] = {}
        for given in map(as_tool, tools):
            if given.name in self._tools:
                raise ToolError(f"Two tools are called {given.name!r}; give one another name with @tool(name=...).")
            self._tools[given.name] = given
        self._policies = {name: each.policy or policy for name, each in self._tools.items()}
        for name, each_policy in (policies or {}).items():
            self.set_policy(name, each_policy)
        self._ask = ask
        self._timeout = timeout
        self._max_result_characters = max_result_characters
        self._check_asking()

    @property
    def tools(self) -> Mapping[str, FunctionTool]:
        """The tools by their names."""
        return self._tools

    @property
    def definitions(self) -> list[Tool]:
        """What the model is told of the tools."""
        return [each.definition for each in self._tools.values()]

    def described(self) -> list[dict[str, Any]]:
        """The definitions as clients send them: `{"type": "function", "function": {...}}`."""
        return [tool_object(definition) for definition in self.definitions]

    def policy_of(self, name: str) -> Policy:
        """The policy of a tool."""
        return self._policies[self._known(name)]

    def set_policy(self, name: str, policy: Policy) -> None:
        """Give a tool another policy; ToolError for an unknown tool or policy."""
        check_policy(policy, self._known(name))
        self._policies[name] = policy

    def run(self, call: ToolCall) -> ToolResult:
        """What becomes of a call. Never raises for what the model wrote or the tool did: the model is told."""
        begin = time.monotonic()
        status, content = self._outcome(call)
        return ToolResult(call, self._bounded(content), status, time.monotonic() - begin)

    def _outcome(self, call: ToolCall) -> tuple[Status, str]:
        given = self._tools.get(call.name)
        if given is None:
            return "failed", f"Error: there is no tool {call.name!r}; there are {', '.join(self._tools) or 'none'}."
        try:
            arguments = given.read(json.loads(call.arguments or "{}"), "")
        except (ArgumentError, ValueError, RecursionError) as error:
            reason = error if isinstance(error, ArgumentError) else f"the arguments are no JSON: {error}."
            return "failed", f"Error: {reason}"
        if not self._may_run(given, call):
            return "denied", "Error: the user does not allow this call."
        return _run(given, arguments, given.timeout or self._timeout)

    def _may_run(self, given: FunctionTool, call: ToolCall) -> bool:
        policy = self._policies[given.name]
        if policy == "ask":
            self._check_asking()
            assert self._ask is not None
            answer = self._ask(given, call)
            if answer == "always":
                self._policies[given.name] = "allow"
            return bool(answer)
        return policy == "allow"

    def _bounded(self, content: str) -> str:
        surplus = len(content) - self._max_result_characters
        if surplus <= 0:
            return content
        return f"{content[: self._max_result_characters]}\n[{surplus} more characters were cut off]"

    def _known(self, name: str) -> str:
        if name not in self._tools:
            raise ToolError(f"There is no tool {name!r}; there are {', '.join(self._tools) or 'none'}.")
        return name

    def _check_asking(self) -> None:
        asked = [name for name, policy in self._policies.items() if policy == "ask"]
        if asked and self._ask is None:
            raise ToolError(
                f"The tool {asked[0]!r} has the policy 'ask', and there is nobody to ask: give `ask`, a function that "
                f"says whether a call may run, or another policy ({', '.join(POLICIES[1:])})."
            )


def _run(given: FunctionTool, arguments: Mapping[str, Any], timeout: float) -> tuple[Status, str]:
    """Run a tool in a thread of its own, so that it can be left behind."""
    outcome: list[tuple[Status, str]] = []
    context = contextvars.copy_context()
    worker = threading.Thread(
        target=lambda: outcome.append(context.run(_finished, given, arguments, timeout)),
        name=f"ostro-tool-{given.name}",
        daemon=True,
    )
    worker.start()
    worker.join(timeout + _GRACE if inspect.iscoroutinefunction(given.function) else timeout)
    # A tool that was done just then is done.
    return outcome[0] if outcome else _timed_out(given, timeout)


_GRACE = 1.0
"""Seconds in which a cancelled coroutine may end; then it is left behind too."""


def _timed_out(given: FunctionTool, timeout: float) -> tuple[Status, str]:
    return "timeout", f"Error: {given.name} did not end within {timeout:g} seconds."


def _finished(given: FunctionTool, arguments: Mapping[str, Any], timeout: float) -> tuple[Status, str]:
    try:
        if inspect.iscoroutinefunction(given.function):
            value = asyncio.run(asyncio.wait_for(given.function(**arguments), timeout))
        else:
            value = given.function(**arguments)
        return "done", as_text(value)
    except TimeoutError as error:
        if inspect.iscoroutinefunction(given.function):
            return _timed_out(given, timeout)
        return "failed", f"Error: TimeoutError: {error}"
    except OstroError as error:
        return "failed", f"Error: {error}"
    except Exception as error:
        logger.debug("the tool %s failed", given.name, exc_info=True)
        return "failed", f"Error: {type(error).__name__}: {error}"


def as_text(value: Any) -> str:
    """A tool's value as the model reads it: a string as it is, anything else as JSON."""
    if isinstance(value, str):
        text = value
    else:
        text = json.dumps(value, ensure_ascii=False, default=str)
    # Half a surrogate pair, which no tokenizer takes.
    return text.encode("utf-8", "replace").decode("utf-8")
