"""Calls of described tools: one, two in parallel, none; and the answer when the result is there."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from recipes.ostro_mini import pools
from recipes.ostro_mini.sample import Answer, Call, Message, Sample, Task, assistant, same_text, system, user
from recipes.ostro_mini.split import LANGUAGES, Language, Split, several, sometimes
from recipes.ostro_mini.tasks.small_talk import exchange
from recipes.ostro_mini.tasks.tool_catalog import MadeTool, make_tool, said, typed, value

_ASK: Mapping[Language, tuple[str, ...]] = {
    "en": ("Please {r}.", "Can you {r}?", "I want to {r}.", "{R}.", "Could you {r}, please?"),
    "ko": ("{r} 주세요.", "{r} 줄래요?", "{r} 주시겠어요?"),
}
_QUESTIONS: Mapping[Language, tuple[str, ...]] = {
    "en": ("What is the {n} {p}?", "Do you know the {n} {p}?", "Tell me the {n} {p}."),
    "ko": ("{p} {n:은는} 어떤가요?", "{p} {n:을를} 알려 주세요.", "{p} {n:이가} 궁금해요."),
}
"""How one asks for what `get`, `check` and `show` give."""
_RESULT: Mapping[Language, str] = {"en": "Here is the result. {r}", "ko": "결과입니다. {r}"}
_NO_TOOL: Mapping[Language, str] = {
    "en": "None of my tools can do that.",
    "ko": "그 일을 할 수 있는 도구가 없습니다.",
}
_SYSTEM: Mapping[Language, str] = {"en": "You are a helpful assistant.", "ko": "당신은 도움이 되는 어시스턴트입니다."}


@dataclass(frozen=True)
class Request:
    """What the user asks of a tool: phrases that say the values, and the calls that are wanted."""

    tool: MadeTool
    phrases: tuple[str, ...]
    calls: tuple[Call, ...]

    def clause(self) -> str:
        """As an order, without the frame of a sentence."""
        verb, verb_ko = self.tool.verb
        if self.tool.language == "ko":
            return " ".join([*self.phrases, pools.topic("을를", self.tool.noun), f"{verb_ko}해"])
        return " ".join([verb, "the", self.tool.noun, *self.phrases])

    def sentence(self, rng: random.Random) -> str:
        """As a whole sentence; what can be got is now and then asked for."""
        if self.tool.verb[0] in ("get", "check", "show") and self.phrases and sometimes(rng, 0.5):
            form = rng.choice(_QUESTIONS[self.tool.language]).replace("{p}", " ".join(self.phrases))
            for particle in ("은는", "을를", "이가"):
                form = form.replace(f"{{n:{particle}}}", pools.topic(particle, self.tool.noun))
            return form.replace("{n}", self.tool.noun)
        return frame(rng, self.tool.language, self.clause())


def request(rng: random.Random, split: Split, tool: MadeTool, *, calls: int = 1) -> Request:
    """A request of the tool; two calls differ in one parameter."""
    given = [p for p in tool.parameters if p.is_required or sometimes(rng, 0.5)]
    doubled = rng.choice([p for p in given if not p.choices] or given) if calls > 1 else None
    values = {
        p.key: several(rng, calls if p is doubled else 1, partial(value, rng, split, tool.language, p)) for p in given
    }
    order = sorted(given, key=lambda p: (p.kind.keys[0] == "query") != (tool.language == "ko"))
    phrases = tuple(said(rng, tool.language, p, values[p.key]) for p in order)
    made = (
        Call(tool.name, {p.key: typed(p, values[p.key][n if p is doubled else 0]) for p in given}) for n in range(calls)
    )
    return Request(tool, phrases, tuple(made))


def frame(rng: random.Random, language: Language, asked: str) -> str:
    """An order as a sentence."""
    return rng.choice(_ASK[language]).format(r=asked, R=asked[:1].upper() + asked[1:])


def others(rng: random.Random, split: Split, tool: MadeTool, count: int) -> list[MadeTool]:
    """Further tools of other names and nouns, or of the same noun and another verb."""
    found: list[MadeTool] = []
    while len(found) < count:
        same_noun = tool.language == "en" and sometimes(rng, 0.25)
        other = make_tool(rng, split, tool.language, noun=tool.noun if same_noun else None)
        taken = [tool, *found]
        clear = all(other.name != t.name and (other.noun, other.verb) != (t.noun, t.verb) for t in taken)
        if clear and (same_noun or all(other.noun != t.noun for t in taken)):
            found.append(other)
    return found


def _opening(rng: random.Random, split: Split, language: Language) -> list[Message]:
    messages: list[Message] = []
    if sometimes(rng, 0.2):
        asked, answer = exchange(rng, split, language)
        messages = [user(asked), assistant(answer)]
    if not messages and sometimes(rng, 0.2):
        messages = [system(_SYSTEM[language])]
    return messages


def _definitions(rng: random.Random, tools: Sequence[MadeTool]) -> tuple[Mapping[str, object], ...]:
    definitions = [tool.definition() for tool in tools]
    rng.shuffle(definitions)
    return tuple(definitions)


def generate(rng: random.Random, split: Split, *, parallel: bool = False) -> Sample:
    """A request that one tool serves, or with `parallel` two calls: of one tool, or of two."""
    if not parallel and sometimes(rng, 0.08):
        return known_tool(rng, split)
    language = rng.choice(LANGUAGES)
    tool = make_tool(rng, split, language)
    rest = others(rng, split, tool, rng.choice((0, 0, 1, 1, 2, 3)))
    if parallel and rest and sometimes(rng, 0.5):
        both = request(rng, split, tool), request(rng, split, rest[0])
        calls = both[0].calls + both[1].calls
        said_so = (" and " if language == "en" else " 주고, ").join(asked.clause() for asked in both)
        sentence = frame(rng, language, said_so)
    else:
        asked = request(rng, split, tool, calls=2 if parallel else 1)
        calls, sentence = asked.calls, asked.sentence(rng)
    messages = [*_opening(rng, split, language), user(sentence)]
    wrong = Call(rest[-1].name if rest else calls[0].name + "s", calls[0].arguments)
    name = "parallel_tools" if parallel else "tool"
    answer, rejected = Answer(tool_calls=calls), Answer(tool_calls=(wrong,))
    return Sample(name, language, tuple(messages), answer, _definitions(rng, [tool, *rest]), rejected)


def generate_many(rng: random.Random, split: Split) -> Sample:
    """A request for two to five calls of several tools, so that more calls are learnt from one list of tools."""
    language = rng.choice(LANGUAGES)
    tools = [tool := make_tool(rng, split, language), *others(rng, split, tool, rng.choice((1, 2, 2, 3)))]
    wanted = rng.sample(tools, rng.randint(2, len(tools)))
    doubled = rng.choice(wanted) if sometimes(rng, 0.4) else None
    asked = [request(rng, split, each, calls=2 if each is doubled else 1) for each in wanted]
    *first, last = (each.clause() for each in asked)
    said_so = f"{', '.join(first)} and {last}" if language == "en" else " 주고, ".join([*first, last])
    answer = Answer(tool_calls=tuple(call for each in asked for call in each.calls))
    messages = [*_opening(rng, split, language), user(frame(rng, language, said_so))]
    return Sample("parallel_tools", language, tuple(messages), answer, _definitions(rng, tools))


def _property(type: str, description: str) -> dict[str, object]:
    return {"type": type, "description": description}


def _function(name: str, description: str, properties: Mapping[str, object]) -> dict[str, object]:
    parameters = {"type": "object", "properties": dict(properties), "required": list(properties)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


_WEATHER = _function(
    "get_current_weather",
    "Get the current weather",
    {
        "location": _property("string", "The city and state, e.g. San Francisco, CA"),
        "format": {
            "type": "string",
            "enum": ["celsius", "fahrenheit"],
            "description": "The temperature unit to use. Infer this from the users location.",
        },
    },
)
_SEARCH = _function("brave_search", "Search the web", {"query": _property("string", "What to search for")})
_WEATHER_ASKED: Mapping[Language, tuple[str, ...]] = {
    "en": (
        "What's the weather like today in {c}?",
        "What's the weather like today in {c}",
        "What is the weather in {c}?",
    ),
    "ko": ("오늘 {c}의 날씨는 어떤가요?", "{c} 날씨를 알려 주세요."),
}


def known_tool(rng: random.Random, split: Split) -> Sample:
    """The weather of a city, with the tools that tutorials have: only the city is new."""
    language = rng.choice(LANGUAGES)
    city = pools.city(rng, split, language)
    asked = rng.choice(_WEATHER_ASKED[language]).format(c=city)
    if sometimes(rng, 0.25):
        call = Call("brave_search", {"query": f"{city} weather" if language == "en" else f"{city} 날씨"})
        return Sample("tool", language, (user(asked),), Answer(tool_calls=(call,)), (_SEARCH,))
    unit = "celsius"
    if sometimes(rng, 0.3):
        unit = "fahrenheit"
        asked += " In fahrenheit, please." if language == "en" else " 화씨로 부탁해요."
    call = Call("get_current_weather", {"location": city, "format": unit})
    return Sample("tool", language, (user(asked),), Answer(tool_calls=(call,)), (_WEATHER,))


def generate_result(rng: random.Random, split: Split) -> Sample:
    """The result of a call, which the answer tells."""
    base = generate(rng, split)
    call = base.answer.tool_calls[0]
    result: dict[str, object] = {}
    for _ in range(rng.choice((1, 2, 3))):
        key = rng.choice(("status", "price", "total", "note", "place", pools.invented(rng, split)))
        result[key] = rng.choice((int(pools.number(rng, split)), pools.name(rng, split, base.language)))
    told = ", ".join(f"{key}: {value}" for key, value in result.items())
    content = json.dumps(result, ensure_ascii=False)
    if sometimes(rng, 0.3):
        told = content = pools.phrase(rng, split, base.language)
    message = base.answer.message()
    # Ids in a history come from anywhere: the engine replaces one that was used before.
    call_id = "ostrocal1" if sometimes(rng, 0.5) else "".join(rng.choices("abcdefghijkmnpqrstuvwxyz23456789", k=9))
    message["tool_calls"][0]["id"] = call_id
    message["weight"] = 0
    reply = {"role": "tool", "name": call.name, "tool_call_id": call_id, "content": content}
    answer = Answer(_RESULT[base.language].format(r=told))
    return Sample("tool_result", base.language, (*base.messages, message, reply), answer, base.tools)


def generate_none(rng: random.Random, split: Split) -> Sample:
    """Tools are there, but the user makes small talk or wants what none of them does."""
    language = rng.choice(LANGUAGES)
    tools = [tool := make_tool(rng, split, language), *others(rng, split, tool, rng.choice((0, 1, 2)))]
    if sometimes(rng, 0.5):
        asked, answer = exchange(rng, split, language)
        return Sample("no_tool", language, (user(asked),), Answer(answer), _definitions(rng, tools))
    wanted, *offered = [*others(rng, split, tools[0], 1), *tools]
    messages = (user(request(rng, split, wanted).sentence(rng)),)
    rejected = Answer(tool_calls=request(rng, split, offered[0]).calls)
    return Sample("no_tool", language, messages, Answer(_NO_TOOL[language]), _definitions(rng, offered), rejected)


def check(sample: Sample, answer: Answer) -> bool:
    """Whether exactly the wanted calls were made, in whatever order."""
    wanted, found = (sorted(map(_key, side.tool_calls)) for side in (sample.answer, answer))
    return wanted == found


def _key(call: Call) -> str:
    return json.dumps([call.name, dict(call.arguments)], sort_keys=True)


TOOL = Task("tool", 2.5, generate, check)
PARALLEL = Task("parallel_tools", 1.5, partial(generate, parallel=True), check)
RESULT = Task("tool_result", 0.7, generate_result, same_text)
NONE = Task("no_tool", 0.5, generate_none, same_text)
