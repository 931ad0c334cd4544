"""Plain copying inside a conversation: repeating, looking up in a dictionary, quoting, and the user's own name."""

from __future__ import annotations

import random
from collections.abc import Mapping

from recipes.ostro_mini import pools
from recipes.ostro_mini.sample import Answer, Message, Sample, Task, assistant, same_text, user
from recipes.ostro_mini.split import LANGUAGES, Language, Split, several, sometimes
from recipes.ostro_mini.tasks.json_lines import lines_of
from recipes.ostro_mini.tasks.small_talk import exchange

_REPEAT: Mapping[Language, tuple[str, ...]] = {
    "en": ("Repeat: {0}", "Say this again: {0}", "Repeat after me: {0}", "Copy this text.\n\n{0}", "Echo {0}"),
    "ko": ("따라 하세요: {0}", "다시 말해 주세요: {0}", "이 글을 그대로 쓰세요.\n\n{0}"),
}
_LOOKUP: Mapping[Language, tuple[str, ...]] = {
    "en": ("{lines}\n\nWhat is {key}?", "{lines}\n\n{key}?", "{lines}\n\nTell me the value of {key}."),
    "ko": ("{lines}\n\n{key}의 값은 무엇인가요?", "{lines}\n\n{key}?", "{lines}\n\n{key}의 값을 알려 주세요."),
}
_LOOKUP_NEXT: Mapping[Language, tuple[str, ...]] = {
    "en": ("And {key}?", "{key}?", "What is {key}?"),
    "ko": ("그리고 {key}?", "{key}?", "{key}의 값은 무엇인가요?"),
}
_MY_NAME: Mapping[Language, tuple[tuple[str, str], ...]] = {
    "en": (
        ("My name is {n}.", "Nice to meet you, {n}! How can I help you?"),
        ("Hello, I am {n}.", "Hello, {n}! How can I help you?"),
        ("Hi! I'm {n} and I live in {c}.", "Hello, {n}! How is life in {c}?"),
        ("Call me {n}, please.", "Of course, {n}. How can I help you?"),
    ),
    "ko": (
        ("제 이름은 {n}입니다.", "반갑습니다, {n} 님! 무엇을 도와드릴까요?"),
        ("안녕하세요, 저는 {n}입니다.", "안녕하세요, {n} 님! 무엇을 도와드릴까요?"),
        ("저는 {n}이고 {c}에 살아요.", "안녕하세요, {n} 님! {c}에서의 생활은 어떠신가요?"),
    ),
}
_WHO_AM_I: Mapping[Language, tuple[tuple[str, ...], str]] = {
    "en": (("What is my name?", "Who am I?", "Do you remember my name?"), "Your name is {n}."),
    "ko": (("제 이름이 뭐죠?", "제 이름은 무엇인가요?", "제 이름을 기억하나요?"), "{n} 님입니다."),
}


def text(rng: random.Random, split: Split, language: Language) -> str:
    """Something to repeat: a phrase, a name, a code, a list of made-up words."""
    draw = rng.choice((pools.phrase, pools.person, pools.city, _code, _words, _words))
    return draw(rng, split, language)


def _code(rng: random.Random, split: Split, _language: Language) -> str:
    return rng.choice((pools.code, pools.email, pools.phone, pools.street))(rng, split)


def _words(rng: random.Random, split: Split, language: Language) -> str:
    return " ".join(pools.invented(rng, split, language) for _ in range(rng.randint(2, 6)))


def generate_repeat(rng: random.Random, split: Split) -> Sample:
    """One to three texts to repeat."""
    language = rng.choice(LANGUAGES)
    texts = [text(rng, split, language) for _ in range(rng.choice((1, 2, 3)))]
    messages: list[Message] = []
    for given in texts:
        messages += [user(rng.choice(_REPEAT[language]).format(given)), assistant(given)]
    return Sample("repeat", language, tuple(messages[:-1]), Answer(texts[-1]))


def dictionary(rng: random.Random, split: Split, language: Language, size: int) -> dict[str, str]:
    """Made-up keys with names, words or numbers."""
    keys = several(rng, size, lambda: pools.invented(rng, split, language))
    number, word = pools.plain(pools.number), pools.invented
    draws = rng.choice(((number,), (word,), (number, word, pools.name)))
    return {key: rng.choice(draws)(rng, split, language) for key in keys}


def generate_lookup(rng: random.Random, split: Split, *, dense: bool = False) -> Sample:
    """A dictionary and one to three questions for a value of it, with `dense` for all of them."""
    language = rng.choice(LANGUAGES)
    values = dictionary(rng, split, language, rng.randint(3, 10))
    asked = rng.sample(sorted(values), len(values) if dense else rng.choice((1, 2, 3)))
    messages: list[Message] = []
    for number, key in enumerate(asked):
        form = rng.choice(_LOOKUP_NEXT[language] if number else _LOOKUP[language])
        messages += [user(form.format(lines=lines_of(values), key=key)), assistant(values[key])]
    others = [value for value in values.values() if value != values[asked[-1]]]
    return Sample(
        "lookup", language, tuple(messages[:-1]), Answer(values[asked[-1]]), rejected=Answer(rng.choice(others))
    )


def generate_name(rng: random.Random, split: Split) -> Sample:
    """The user says who they are, and asks later."""
    language = rng.choice(LANGUAGES)
    values = {"n": pools.first_name(rng, split, language), "c": pools.city(rng, split, language)}
    said, greeting = (part.format(**values) for part in rng.choice(_MY_NAME[language]))
    messages: list[Message] = [user(said), assistant(greeting)]
    for _ in range(rng.choice((0, 0, 1, 2))):
        asked, answer = exchange(rng, split, language)
        messages += [user(asked), assistant(answer)]
    questions, form = _WHO_AM_I[language]
    if sometimes(rng, 0.2):
        return Sample("name", language, (user(said),), Answer(greeting))
    return Sample("name", language, (*messages, user(rng.choice(questions))), Answer(form.format(**values)))


REPEAT = Task("repeat", 1.0, generate_repeat, same_text)
LOOKUP = Task("lookup", 1.0, generate_lookup, same_text)
NAME = Task("name", 0.5, generate_name, same_text)
