"""The two tools that Llama 3.1 knows by name: Brave's web search and Wolfram|Alpha. Both need a key of their owners.

Every model may use them; for Llama they are announced in the system header, for the others they are functions.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from ostro import env
from ostro.errors import ServiceError, ToolError
from ostro.tools.functions import FunctionTool, Policy, tool
from ostro.tools.http import get_json

BRAVE_URL = "https://api.search.brave.com/res/v1/web/search"
WOLFRAM_URL = "https://api.wolframalpha.com/v2/query"
BUILTIN_NAMES = ("brave_search", "wolfram_alpha")
_MAX_CHARACTERS, _MAX_WORDS = 400, 50
_TAG = re.compile(r"<[^<>]*>")


def brave_search(
    api_key: str | None = None,
    *,
    count: int = 5,
    url: str = BRAVE_URL,
    policy: Policy | None = None,
    timeout: float = 15.0,
) -> FunctionTool:
    """Brave's web search as a tool; the key is `api_key` or the variable BRAVE_API_KEY.

    The model gets `{"query", "top_k": [{"title", "url", "description"}]}` with at most `count` (1 to 20) results, which
    is the form that Meta's documents show. ToolError without a key.
    """
    key = _key(api_key, "brave_search", "BRAVE_API_KEY", "https://brave.com/search/api")
    if not 1 <= count <= 20:
        raise ToolError(f"count of brave_search is {count}; it is 1 to 20.")

    def search(query: Annotated[str, "What to search for, a few words."]) -> dict[str, Any]:
        """Searches the web, and gives titles, addresses and descriptions of the pages found."""
        words = query.split()
        # Brave refuses longer queries.
        asked = " ".join(words[:_MAX_WORDS])[:_MAX_CHARACTERS]
        if not asked:
            raise ToolError("The query is empty: give a few words.")
        headers = {"X-Subscription-Token": key, "Accept": "application/json"}
        params = {"q": asked, "count": str(count)}
        status, value = get_json("Brave Search", url, params=params, headers=headers, timeout=timeout)
        return {"query": asked, "top_k": [_page(page) for page in _pages(status, value)[:count]]}

    return _builtin("brave_search", search, policy, timeout)


def wolfram_alpha(
    app_id: str | None = None, *, url: str = WOLFRAM_URL, policy: Policy | None = None, timeout: float = 30.0
) -> FunctionTool:
    """Wolfram|Alpha as a tool; the key is `app_id` or the variable WOLFRAM_APP_ID.

    The model gets the `queryresult` of the Full Results API with the plain texts of its pods. ToolError without a key.
    """
    key = _key(app_id, "wolfram_alpha", "WOLFRAM_APP_ID", "https://developer.wolframalpha.com")

    def compute(
        query: Annotated[str, "A calculation or a question of fact, in English or as a formula."],
    ) -> dict[str, Any]:
        """Computes, and answers questions of mathematics, science and fact."""
        if not query.strip():
            raise ToolError("The query is empty: give a calculation or a question.")
        params = {"appid": key, "input": query, "format": "plaintext", "output": "json"}
        status, value = get_json("Wolfram|Alpha", url, params=params, headers={}, timeout=timeout)
        return {"queryresult": _query_result(status, value, query)}

    return _builtin("wolfram_alpha", compute, policy, timeout)


def builtin_tool(name: str, **options: Any) -> FunctionTool:
    """A tool of BUILTIN_NAMES with its key from the environment; ToolError for another name or without a key."""
    makers: Mapping[str, Callable[..., FunctionTool]] = {"brave_search": brave_search, "wolfram_alpha": wolfram_alpha}
    if name not in makers:
        raise ToolError(f"There is no built-in tool {name!r}; there are {', '.join(BUILTIN_NAMES)}.")
    return makers[name](**options)


def _builtin(name: str, function: Callable[..., Any], policy: Policy | None, timeout: float) -> FunctionTool:
    made = tool(name=name, policy=policy, timeout=timeout + 5)(function)  # the client's own timeout says more
    return FunctionTool(made.definition, function, made.read, made.policy, made.timeout, is_builtin=True)


def _key(given: str | None, name: str, variable: str, source: str) -> str:
    key = (given or "").strip() or env.service_key(variable)
    if not key or not key.isascii() or not key.isprintable():
        raise ToolError(f"{name} needs a key, to be had at {source}: set the variable {variable} to it.")
    return key


def _pages(status: int, value: Any) -> list[Any]:
    """`web.results` of Brave's answer; it is missing where nothing was found."""
    if status == 200 and isinstance(value, dict):
        web = value.get("web")
        pages = web.get("results") if isinstance(web, dict) else []
        return [page for page in pages if isinstance(page, dict)] if isinstance(pages, list) else []
    error = value.get("error") if isinstance(value, dict) else None
    code = error.get("code") if isinstance(error, dict) else None
    detail = error.get("detail") if isinstance(error, dict) else None
    if status in (401, 403) or code == "SUBSCRIPTION_TOKEN_INVALID":
        raise ServiceError("Brave Search refuses the key: correct the variable BRAVE_API_KEY.")
    if status == 429:
        raise ServiceError("Brave Search has had too many requests for this key: try again later.")
    raise ServiceError(f"Brave Search refuses the request (status {status}{f': {detail}' if detail else ''}).")


def _page(page: Mapping[str, Any]) -> dict[str, str]:
    return {name: _plain(page.get(name)) for name in ("title", "url", "description")}


def _plain(text: object) -> str:
    """Text without Brave's marks of emphasis and entities."""
    return html.unescape(_TAG.sub("", text)) if isinstance(text, str) else ""


def _query_result(status: int, value: Any, query: str) -> dict[str, Any]:
    result = value.get("queryresult") if isinstance(value, dict) else None
    if not isinstance(result, dict):
        refused = (
            "refuses the key: correct the variable WOLFRAM_APP_ID" if status == 403 else f"answers with status {status}"
        )
        raise ServiceError(f"Wolfram|Alpha {refused}.")
    error = result.get("error")
    if isinstance(error, dict):
        message = str(error.get("msg"))
        if "appid" in message.lower():
            raise ServiceError("Wolfram|Alpha refuses the key: correct the variable WOLFRAM_APP_ID.")
        raise ServiceError(f"Wolfram|Alpha failed: {message}.")
    told: dict[str, Any] = {"success": result.get("success") is True, "inputstring": query}
    pods = result.get("pods")
    told["pods"] = [_pod(pod) for pod in pods if isinstance(pod, dict)] if isinstance(pods, list) else []
    told["pods"] = [pod for pod in told["pods"] if pod["subpods"]]
    if not told["success"] and (meant := _suggestion(result.get("didyoumeans"))):
        told["didyoumean"] = meant
    return told


def _pod(pod: Mapping[str, Any]) -> dict[str, Any]:
    subpods = pod.get("subpods")
    texts = [
        {"title": str(each.get("title") or ""), "plaintext": each["plaintext"]}
        for each in (subpods if isinstance(subpods, list) else [])
        if isinstance(each, dict) and isinstance(each.get("plaintext"), str) and each["plaintext"]
    ]
    primary = {"primary": True} if pod.get("primary") is True else {}
    return {"title": str(pod.get("title") or ""), **primary, "subpods": texts}


def _suggestion(meant: Any) -> str | None:
    """The first of `didyoumeans`, which is an object where there is one, and a list where there are several."""
    first = meant[0] if isinstance(meant, list) and meant else meant
    return str(first["val"]) if isinstance(first, dict) and isinstance(first.get("val"), str) else None
