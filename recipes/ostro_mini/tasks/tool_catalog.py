"""Made-up tools: a verb, a noun and one to three parameters, and how a user asks for them.

A tool's name lies on one side of the split. A third of the nouns are made-up words, so that a name has to be read from
the description of the tools and cannot be known.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recipes.ostro_mini import pools
from recipes.ostro_mini.pools import Draw, plain, topic
from recipes.ostro_mini.split import Language, Split, several, sometimes, split_of

VERBS: Sequence[tuple[str, str]] = (
    ("get", "조회"), ("find", "검색"), ("book", "예약"), ("cancel", "취소"), ("send", "전송"), ("check", "확인"),
    ("create", "생성"), ("delete", "삭제"), ("order", "주문"), ("update", "수정"), ("buy", "구매"), ("show", "표시"),
    ("play", "재생"), ("list", "나열"),
)  # fmt: skip
NOUNS: Sequence[tuple[str, str]] = (
    ("weather", "날씨"), ("hotel", "호텔"), ("flight", "항공편"), ("table", "자리"), ("ticket", "표"), ("taxi", "택시"),
    ("news", "뉴스"), ("message", "메시지"), ("email", "이메일"), ("meeting", "회의"), ("event", "행사"),
    ("reminder", "알림"), ("photo", "사진"), ("song", "노래"), ("movie", "영화"), ("recipe", "요리법"), ("route", "경로"),
    ("train", "기차"), ("bus", "버스"), ("room", "방"), ("car", "자동차"), ("package", "소포"), ("invoice", "청구서"),
    ("account", "계좌"), ("balance", "잔액"), ("stock", "주식"), ("price", "가격"), ("product", "상품"),
    ("customer", "고객"), ("file", "파일"), ("note", "메모"), ("task", "작업"), ("contact", "연락처"),
    ("restaurant", "식당"), ("pizza", "피자"), ("coffee", "커피"), ("book", "책"), ("course", "강좌"), ("class", "수업"),
    ("student", "학생"), ("museum", "박물관"), ("map", "지도"), ("holiday", "휴일"), ("temperature", "기온"),
    ("forecast", "예보"), ("address", "주소"), ("library", "도서관"), ("concert", "음악회"), ("game", "게임"),
)  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """What a parameter holds. `phrases` are how a user says it; `{k}` is its key and `{v}` the value."""

    keys: tuple[str, ...]
    type: str
    description: Mapping[Language, str]
    draw: Draw
    phrases: Mapping[Language, tuple[str, ...]]


def _kind(keys: str, en: str, ko: str, draw: Draw, phrase_en: str, phrase_ko: str, type: str = "string") -> Kind:
    phrases: Mapping[Language, tuple[str, ...]] = {"en": tuple(phrase_en.split("|")), "ko": tuple(phrase_ko.split("|"))}
    return Kind(tuple(keys.split()), type, {"en": en, "ko": ko}, draw, phrases)


_AMOUNT = plain(lambda rng, split: pools.number(rng, split, 1, 999))
KINDS: Sequence[Kind] = (
    _kind("city location place destination", "The city.", "도시", pools.city, "in {v}", "{v}에서"),
    _kind("person name recipient guest", "The name of the person.", "사람의 이름", pools.person, "for {v}", "{v} 님으로"),
    _kind("date day", "The date.", "날짜", plain(pools.date), "on {v}", "{v} 날짜로"),
    _kind("time start", "The time of day.", "시각", plain(pools.clock), "at {v}", "{v} 시각에"),
    _kind("count limit quantity people amount", "A whole number.", "정수", _AMOUNT, "with {k} {v}", "{k} {v:으로}", "integer"),
    _kind("price budget rate", "A number.", "숫자", plain(pools.decimal), "with {k} {v}", "{k} {v:으로}", "number"),
    _kind("id code reference", "The code.", "코드", plain(pools.code), "with {k} {v}", "{k} {v:으로}"),
    _kind("query topic title", "What it is about.", "주제", pools.phrase, "about {v}", '"{v}" 주제로'),
    _kind("from origin", "The city of departure.", "출발 도시", pools.city, "from {v}", "{v}에서 출발해서"),
    _kind("to target", "The city of arrival.", "도착 도시", pools.city, "to {v}", "{v}까지"),
)  # fmt: skip


@dataclass(frozen=True)
class Parameter:
    """A parameter of one tool. `choices` are the values that are allowed, if only some are."""

    key: str
    kind: Kind
    choices: tuple[str, ...] = ()
    is_required: bool = True

    def schema(self, language: Language, described: bool) -> dict[str, Any]:
        """Its JSON schema."""
        schema: dict[str, Any] = {"type": self.kind.type}
        if self.choices:
            schema["enum"] = list(self.choices)
        elif described:
            schema["description"] = self.kind.description[language]
        return schema


@dataclass(frozen=True)
class MadeTool:
    """A tool with the words that ask for it in its language."""

    name: str
    language: Language
    verb: tuple[str, str]
    noun: str
    parameters: tuple[Parameter, ...]
    described: bool

    def definition(self) -> dict[str, Any]:
        """As a request carries it."""
        noun, (verb, verb_ko) = self.noun, self.verb
        description = f"{noun} {verb_ko}" if self.language == "ko" else f"{verb.capitalize()} the {noun}."
        properties = {p.key: p.schema(self.language, self.described) for p in self.parameters}
        required = [p.key for p in self.parameters if p.is_required]
        parameters = {"type": "object", "properties": properties, "required": required}
        return {
            "type": "function",
            "function": {"name": self.name, "description": description, "parameters": parameters},
        }


def make_tool(
    rng: random.Random,
    split: Split,
    language: Language,
    *,
    verb: tuple[str, str] | None = None,
    noun: str | None = None,
) -> MadeTool:
    """A tool whose name lies on the wanted side; `verb` or `noun` (an English one) are drawn unless given."""
    while True:
        verb_used = verb or rng.choice(VERBS)
        english, korean = rng.choice(NOUNS)
        if noun:
            english, korean = noun, dict(NOUNS).get(noun, noun)
        elif sometimes(rng, 0.3):
            english = pools.invented(rng, split)
            korean = rng.choice((english, pools.invented(rng, split, "ko")))
        name = _tool_name(rng, verb_used[0], english)
        if split_of(name) == split:
            break
    said = korean if language == "ko" else english
    parameters = tuple(make_parameters(rng, split, rng.choice((1, 1, 2, 2, 3))))
    return MadeTool(name, language, verb_used, said, parameters, described=sometimes(rng, 0.5))


def _tool_name(rng: random.Random, verb: str, noun: str) -> str:
    style = rng.choice(("snake",) * 7 + ("camel", "turned", "bare"))
    if style == "camel":
        return verb + noun.capitalize()
    if style == "turned":
        return f"{noun}_{verb}"
    return noun if style == "bare" else f"{verb}_{noun}"


def make_parameters(rng: random.Random, split: Split, count: int) -> list[Parameter]:
    """Parameters of different kinds; some keys are made-up words, some allow made-up words only."""
    parameters: list[Parameter] = []
    for kind in rng.sample(KINDS, count):
        key = rng.choice(kind.keys)
        choices: tuple[str, ...] = ()
        if "{k}" in kind.phrases["en"][0]:
            if sometimes(rng, 0.3):
                key = pools.invented(rng, split)
            if kind.type == "string" and sometimes(rng, 0.6):
                choices = tuple(several(rng, rng.choice((2, 3)), lambda: pools.invented(rng, split)))
        if all(key != other.key for other in parameters):  # a made-up key may be one of another kind
            parameters.append(Parameter(key, kind, choices))
    if len(parameters) > 1 and sometimes(rng, 0.15):
        last = parameters[-1]
        parameters[-1] = Parameter(last.key, last.kind, last.choices, is_required=False)
    return parameters


def value(rng: random.Random, split: Split, language: Language, parameter: Parameter) -> str:
    """A value for it, as the user writes it."""
    return rng.choice(parameter.choices) if parameter.choices else parameter.kind.draw(rng, split, language)


def typed(parameter: Parameter, text: str) -> str | int | float:
    """The value as the call has it."""
    match parameter.kind.type:
        case "integer":
            return int(text)
        case "number":
            return float(text)
        case _:
            return text


def said(rng: random.Random, language: Language, parameter: Parameter, texts: Sequence[str]) -> str:
    """How a user says one value, or two of which each is meant for a call of its own."""
    form = rng.choice(parameter.kind.phrases[language]).replace("{k}", parameter.key)
    if language == "ko":
        joined = topic("과와", texts[0]) + f" {texts[1]}" if len(texts) > 1 else texts[0]
        return form.replace("{v:으로}", f"{joined}{_with(joined)}").replace("{v}", joined)
    return form.format(v=" and ".join(texts))


def _with(word: str) -> str:
    """The particle 으로 or 로."""
    if "가" <= word[-1] <= "힣":
        return "로" if (ord(word[-1]) - 0xAC00) % 28 in (0, 8) else "으로"
    return "으로" if word[-1] in "036lmn" else "로"
