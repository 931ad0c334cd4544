"""JSON from `key: value` lines, as in the prompts of the Mixtral guide.

Whole and decimal numbers are written bare, everything else is a string; keys that name a date, a time, a phone number
or an address always hold strings. Answers have one key a line and no indentation.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping
from typing import Any

from recipes.ostro_mini import pools
from recipes.ostro_mini.pools import Draw, plain
from recipes.ostro_mini.sample import Answer, Message, Sample, Task, assistant, system, user
from recipes.ostro_mini.split import LANGUAGES, Language, Split, several, sometimes, split_of

Number = int | float
Value = str | Number

_age = plain(lambda rng, split: pools.number(rng, split, 1, 99))
_number = plain(pools.number)
_decimal = plain(pools.decimal)

_SHARED: Mapping[str, Draw] = {
    "email": plain(pools.email), "phone": plain(pools.phone), "date": plain(pools.date), "time": plain(pools.clock),
    "code": plain(pools.code), "id": plain(pools.code),
}  # fmt: skip
_ENGLISH: Mapping[str, Draw] = {
    **_SHARED,
    "name": pools.first_name, "lastname": pools.last_name, "full_name": pools.person, "author": pools.person,
    "owner": pools.person, "friend": pools.first_name, "teacher": pools.last_name, "city": pools.city,
    "country": pools.name, "birthplace": pools.city, "address": plain(pools.street), "street": plain(pools.street),
    "age": _age, "year": plain(pools.year), "count": _number, "quantity": _age, "price": _decimal, "total": _number,
    "weight": _decimal, "height": _number, "score": _decimal, "rooms": _age, "title": pools.phrase,
    "topic": pools.phrase, "note": pools.phrase, "product": pools.phrase, "color": pools.invented,
    "company": pools.name, "team": pools.name, "job": pools.invented, "language": pools.name, "brand": pools.name,
    "model": pools.name, "status": pools.invented, "category": pools.invented, "birthday": plain(pools.date),
    "hobby": pools.invented, "pet": pools.invented, "film": pools.phrase, "song": pools.phrase,
}  # fmt: skip
_KOREAN: Mapping[str, Draw] = {
    "이름": pools.person, "성": pools.last_name, "저자": pools.person, "주인": pools.person, "친구": pools.first_name,
    "도시": pools.city, "나라": pools.name, "고향": pools.city, "나이": _age, "연도": plain(pools.year),
    "수량": _number, "가격": _number, "점수": _decimal, "무게": _decimal, "제목": pools.phrase, "주제": pools.phrase,
    "메모": pools.phrase, "상품": pools.phrase, "색": pools.invented, "회사": pools.name, "직업": pools.invented,
    "날짜": plain(pools.date), "시간": plain(pools.clock), "전화": plain(pools.phone), "이메일": plain(pools.email),
    "취미": pools.invented, "상태": pools.invented, "코드": plain(pools.code), "생일": plain(pools.date),
    "name": pools.person, "city": pools.city, "age": _age, "title": pools.phrase,
}  # fmt: skip

_GUIDE_EN = (
    "You are a helpful code assistant. Your task is to generate a valid JSON object based on the given information:"
)
_GUIDE_KO = "당신은 도움이 되는 코드 어시스턴트입니다. 주어진 정보를 기반으로 유효한 JSON 객체를 생성하는 것이 당신의 작업입니다:"
_ONLY_EN = "Just generate the JSON object without explanations:"
_ONLY_KO = "설명 없이 JSON 객체만 생성하세요:"
_WITH_SYSTEM: Mapping[Language, tuple[str, ...]] = {
    "en": (_GUIDE_EN[:-1] + ".", "Answer with a JSON object only.", "Turn the lines into JSON."),
    "ko": (_GUIDE_KO[:-1] + ".", "JSON 객체로만 답하세요.", "줄들을 JSON으로 바꾸세요."),
}
_ALONE: Mapping[Language, tuple[str, ...]] = {
    "en": (
        f"{_GUIDE_EN}\n\n{{lines}}\n\n{_ONLY_EN}",
        "Make a JSON object from these lines:\n\n{lines}",
        "Convert to JSON:\n{lines}",
        "Write this as JSON.\n\n{lines}",
        "{lines}\n\nGive me this as a JSON object.",
    ),
    "ko": (
        f"{_GUIDE_KO}\n\n{{lines}}\n\n{_ONLY_KO}",
        "다음 줄들로 JSON 객체를 만드세요:\n\n{lines}",
        "JSON으로 바꿔 주세요:\n{lines}",
        "{lines}\n\n이것을 JSON 객체로 써 주세요.",
    ),
}
_NEXT: Mapping[Language, tuple[str, ...]] = {
    "en": ("Now these:\n\n{lines}", "And this one:\n{lines}", "{lines}"),
    "ko": ("이번에는 이것을:\n\n{lines}", "이것도 부탁해요:\n{lines}", "{lines}"),
}
_CHATTY: Mapping[Language, tuple[str, str]] = {
    "en": ("Here is the JSON object:\n", "\nI hope this helps!"),
    "ko": ("JSON 객체는 다음과 같습니다:\n", "\n도움이 되었기를 바랍니다!"),
}


def record(rng: random.Random, split: Split, language: Language, fields: int) -> dict[str, str]:
    """Keys with values as text. The set of keys, the schema, lies on the wanted side of the split."""
    pool = _KOREAN if language == "ko" else _ENGLISH
    while True:
        invented = sum(sometimes(rng, 0.15) for _ in range(fields))
        keys = rng.sample(sorted(pool), fields - invented)
        keys += several(rng, invented, lambda: pools.invented(rng, split, language))
        rng.shuffle(keys)
        if len(set(keys)) == fields and split_of(schema_name(keys)) == split:
            return values_for(rng, split, language, keys)


def values_for(rng: random.Random, split: Split, language: Language, keys: Iterable[str]) -> dict[str, str]:
    """Values as text for these keys; made-up keys may have anything."""
    pool = _KOREAN if language == "ko" else _ENGLISH
    return {key: _value(rng, split, language, pool.get(key)) for key in keys}


def schema_name(keys: list[str]) -> str:
    """What is hashed to say on which side a set of keys lies."""
    return "schema " + ",".join(sorted(keys))


def _value(rng: random.Random, split: Split, language: Language, draw: Draw | None) -> str:
    if draw is None:
        draw = rng.choice((_number, _decimal, pools.invented, pools.name, pools.phrase))
    return draw(rng, split, language)


def typed(text: str) -> Value:
    """The value that a text stands for: a number if it is nothing else.

    >>> typed("31"), typed("3.5"), typed("2026-05-17"), typed("#1 Samuel St.")
    (31, 3.5, '2026-05-17', '#1 Samuel St.')
    """
    if text.isascii() and text.replace(".", "", 1).isdigit():
        return float(text) if "." in text else int(text)
    return text


def lines_of(values: Mapping[str, str]) -> str:
    """The `key: value` lines."""
    return "\n".join(f"{key}: {value}" for key, value in values.items())


def json_of(values: Mapping[str, str], indent: int | None = 0) -> str:
    """The JSON object, one key a line unless `indent` is None.

    >>> print(json_of({"name": "Ted", "age": "31"}))
    {
    "name": "Ted",
    "age": 31
    }
    """
    return json.dumps({key: typed(value) for key, value in values.items()}, ensure_ascii=False, indent=indent)


def generate(rng: random.Random, split: Split, *, dense: bool = False) -> Sample:
    """One to three objects in a conversation, with `dense` four; the last is the one that is judged."""
    language = rng.choice(LANGUAGES)
    # Lines of one language come with a request in the other, too.
    lines_in: Language = language if sometimes(rng, 0.75) else rng.choice(LANGUAGES)
    turns = 4 if dense else rng.choice((1, 1, 2, 3))
    records = [record(rng, split, lines_in, rng.choice((2, 3, 3, 4, 4, 5, 6))) for _ in range(turns)]
    messages = _messages(rng, language, records, with_system=not dense and sometimes(rng, 0.35))
    answer = json_of(records[-1])
    before, after = _CHATTY[language]
    rejected = before + answer + after if sometimes(rng, 0.5) else _broken(rng, records[-1])
    return Sample("json", language, tuple(messages), Answer(answer), rejected=Answer(rejected))


def _messages(
    rng: random.Random, language: Language, records: list[dict[str, str]], *, with_system: bool
) -> list[Message]:
    messages: list[Message] = []
    if with_system:
        messages.append(system(rng.choice(_WITH_SYSTEM[language])))
    for number, values in enumerate(records):
        if number:
            # A system prompt stands with the last user's message alone, so what came before it is not trained.
            messages.append(assistant(json_of(records[number - 1]), trained=not with_system))
        if number:
            form = rng.choice(_NEXT[language])
        else:
            form = rng.choice(("{lines}", "\n{lines}\n")) if with_system else rng.choice(_ALONE[language])
        messages.append(user(form.format(lines=lines_of(values))))
    return messages


def _broken(rng: random.Random, values: dict[str, str]) -> str:
    """The object with one key missing, or the lines as they came."""
    if sometimes(rng, 0.3):
        return lines_of(values)
    dropped = rng.choice(sorted(values))
    return json_of({key: value for key, value in values.items() if key != dropped})


def check(sample: Sample, answer: Answer) -> bool:
    """Whether the answer is JSON, nothing else, with the same keys in the same order and the same values."""
    wanted = _loads(sample.answer.content)
    return not answer.tool_calls and (found := _loads(answer.content)) is not None and found == wanted


def _loads(text: str) -> list[tuple[str, Any]] | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return list(value.items()) if isinstance(value, dict) else None


TASK = Task("json", 3.0, generate, check)
