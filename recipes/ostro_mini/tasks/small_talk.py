"""Small talk and questions about ostro, in several turns; and what is not known is said not to be."""

from __future__ import annotations

import random
from collections.abc import Mapping

from recipes.ostro_mini import pools
from recipes.ostro_mini.sample import Answer, Message, Sample, Task, assistant, same_text, user
from recipes.ostro_mini.split import LANGUAGES, Language, Split, split_of
from recipes.ostro_mini.tasks import small_talk_en, small_talk_ko
from recipes.ostro_mini.tasks.talk import Talk

_TALK: Mapping[Language, Talk] = {"en": small_talk_en.TALK, "ko": small_talk_ko.TALK}


def exchange(rng: random.Random, split: Split, language: Language) -> tuple[str, str]:
    """What a user may say and the answer to it.

    The words of a question are known ones; what lies on the wanted side of the split is how it is opened, closed and
    spelled. The questions themselves, bare, are all trained.
    """
    talk = _TALK[language]
    while True:
        questions, answer = rng.choice(talk.intents)
        asked = rng.choice(questions)
        dressed = _dress(rng, asked, talk)
        if (split_of(dressed) if dressed.lower() != asked.lower() else "train") == split:
            return dressed, answer


def _dress(rng: random.Random, asked: str, talk: Talk) -> str:
    if not asked.endswith(("?", ".")) and asked[-1] not in "요다":
        asked += rng.choice(("", "!", "."))
    if asked.endswith("?") and rng.random() < 0.1:
        asked = asked[:-1]
    if rng.random() < 0.1:
        asked = asked[:1].lower() + asked[1:]
    return rng.choice(talk.openers) + asked + rng.choice(talk.closers)


def generate(rng: random.Random, split: Split) -> Sample:
    """One to four exchanges."""
    language = rng.choice(LANGUAGES)
    messages: list[Message] = []
    for _ in range(rng.choice((1, 1, 2, 3, 4))):
        asked, answer = exchange(rng, split, language)
        messages += [user(asked), assistant(answer)]
    return Sample("small_talk", language, tuple(messages[:-1]), Answer(answer))


def unknown(rng: random.Random, split: Split) -> Sample:
    """A question about the world, without a text to answer from."""
    language = rng.choice(LANGUAGES)
    talk = _TALK[language]
    values = {
        "c": pools.city(rng, split, language), "p": pools.person(rng, split, language), "y": pools.year(rng, split),
        "w": pools.invented(rng, split, language), "n": pools.number(rng, split), "n2": pools.number(rng, split),
    }  # fmt: skip
    asked = rng.choice(talk.unknown_questions).format(**values)
    return Sample("unknown", language, (user(asked),), Answer(talk.unknown))


TASK = Task("small_talk", 1.5, generate, same_text)
UNKNOWN = Task("unknown", 0.4, unknown, same_text)
