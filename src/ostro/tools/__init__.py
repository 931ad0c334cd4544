"""Tools that a model may call: functions with `@tool`, Brave's search, Wolfram|Alpha; and the loop around them.

    from ostro.tools import ToolBox, run_chat, tool

`docs/tools.md` shows how they go together.
"""

from __future__ import annotations

from ostro.tools.endpoint import Endpoint
from ostro.tools.files import load_tools
from ostro.tools.functions import FunctionTool, Policy, tool
from ostro.tools.loop import ChatResult, run_chat
from ostro.tools.models import ChatModel, LocalModel, ModelAnswer
from ostro.tools.toolbox import ToolBox, ToolResult
from ostro.tools.web import brave_search, wolfram_alpha

__all__ = [
    "ChatModel",
    "ChatResult",
    "Endpoint",
    "FunctionTool",
    "LocalModel",
    "ModelAnswer",
    "Policy",
    "ToolBox",
    "ToolResult",
    "brave_search",
    "load_tools",
    "run_chat",
    "tool",
    "wolfram_alpha",
]
