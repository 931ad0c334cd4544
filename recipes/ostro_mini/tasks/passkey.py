"""A passkey hidden in a long text that is about nothing: `build` makes one of any length and depth."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from recipes.ostro_mini import pools, words
from recipes.ostro_mini.sample import Answer, Sample, Task, user
from recipes.ostro_mini.split import LANGUAGES, Language, Split, sometimes

_NOUNS: Mapping[Language, tuple[str, ...]] = {
    "en": ("pass key", "pass key", "pass key", "secret number"),
    "ko": ("패스키", "패스키", "암호", "비밀번호"),
}
_INTRO: Mapping[Language, tuple[str, ...]] = {
    "en": (
        "A {n} is hidden in the long text below. Find it and remember it; I will ask for it at the end.",
        "Somewhere in this text there is a {n}. Remember it.",
        "Read the text and find the {n}.",
    ),
    "ko": (
        "아래의 긴 글 속에 {n}가 숨어 있습니다. 찾아서 기억하세요. 끝에서 물어보겠습니다.",
        "이 글 어딘가에 {n}가 있습니다. 기억하세요.",
        "글을 읽고 {n}를 찾으세요.",
    ),
}
_NEEDLE: Mapping[Language, str] = {
    "en": "The {n} is {key}. Remember it. {key} is the {n}.",
    "ko": "{n}는 {key}입니다. 기억하세요. {n}는 {key}입니다.",
}
_QUESTION: Mapping[Language, tuple[str, ...]] = {
    "en": ("What is the {n}?", "What is the {n}? The {n} is", "Tell me the {n}."),
    "ko": ("{n}는 무엇인가요?", "{n}는?", "{n}를 알려 주세요."),
}
_ANSWER: Mapping[Language, str] = {"en": "The {n} is {key}.", "ko": "{n}는 {key}입니다."}
_ALONE: Mapping[Language, str] = {
    "en": "What is the {n}? Answer with the number alone.",
    "ko": "{n}는 무엇입니까? 숫자로만 답하세요.",
}
_FILLER: Mapping[Language, tuple[str, ...]] = {
    "en": (
        "The grass is green.", "The sky is blue.", "The sun is warm.", "Here we go.", "There and back.",
        "The river runs to the sea.", "A bird sits in the tree.", "It rains a little today.", "Nothing happens here.",
        "The road is long.", "We walk on.", "The wind is cold.", "The clock ticks.", "The door is open.",
        "Somebody sings a song.", "The train is late again.", "The soup is hot.", "The lamp is on the table.",
    ),
    "ko": (
        "풀은 푸릅니다.", "하늘은 파랗습니다.", "해는 따뜻합니다.", "강은 바다로 흐릅니다.", "나무에 새가 앉아 있습니다.",
        "오늘은 비가 조금 옵니다.", "여기에는 아무 일도 없습니다.", "길은 깁니다.", "우리는 계속 걷습니다.",
        "바람이 찹니다.", "시계가 갑니다.", "문이 열려 있습니다.", "누군가 노래를 부릅니다.",
    ),
}  # fmt: skip
_MADE: Mapping[Language, tuple[str, ...]] = {
    "en": ("The {0} is near the {1}.", "I see a {0} and a {1}.", "My {0} is in the {1}.", "The {0} has no {1}."),
    "ko": ("{0} 옆에 {1} 있습니다.", "{0} 하나와 {1} 하나가 보입니다.", "{0} 안에 {1} 없습니다."),
}


def filler(rng: random.Random, language: Language, num_sentences: int) -> list[str]:
    """Sentences about nothing: a few repeated over and over, or ever new ones."""
    if sometimes(rng, 0.5):
        cycle = rng.sample(_FILLER[language], rng.choice((3, 5, 8)))
        return [cycle[n % len(cycle)] for n in range(num_sentences)]
    return [_sentence(rng, language) for _ in range(num_sentences)]


def _sentence(rng: random.Random, language: Language) -> str:
    if sometimes(rng, 0.4):
        return rng.choice(_FILLER[language])
    nouns = rng.sample(words.NOUNS_KO if language == "ko" else words.NOUNS_EN, 2)
    if language == "ko":
        nouns[1] = pools.topic("이가", nouns[1])
    return pools.articles(rng.choice(_MADE[language]).format(*nouns))


def passkey(rng: random.Random, split: Split) -> str:
    """Five digits; now and then four or six."""
    return pools.digits(rng, split, rng.choice((5, 5, 5, 5, 4, 6)))


def build(
    rng: random.Random, split: Split, language: Language, *, num_sentences: int, depth: float, key: str | None = None
) -> Sample:
    """A prompt with `num_sentences` sentences of filler, the key behind the share `depth` (0 to 1) of them.

    An English sentence of filler is about 5 words. `key` is drawn from the split unless given.

    >>> sample = build(random.Random(1), "train", "en", num_sentences=4, depth=0.5, key="12345")
    >>> sample.answer.content
    'The pass key is 12345.'
    """
    key, noun = key or passkey(rng, split), rng.choice(_NOUNS[language])
    sentences = filler(rng, language, num_sentences)
    place = round(depth * num_sentences)
    sentences.insert(place, _NEEDLE[language].format(n=noun, key=key))
    question, told = rng.choice(_QUESTION[language]), _ANSWER[language]
    if sometimes(rng, 0.15):
        question, told = _ALONE[language], "{key}"
    intro, question = (form.format(n=noun) for form in (rng.choice(_INTRO[language]), question))
    content = f"{intro}\n\n{' '.join(sentences)}\n\n{question}"
    answer = Answer(told.format(n=noun, key=key))
    facts = {"key": key, "depth": depth, "num_sentences": num_sentences}
    return Sample("passkey", language, (user(content),), answer, facts=facts)


def generate(rng: random.Random, split: Split, *, lengths: Sequence[int] = (2, 60)) -> Sample:
    """A key at a random depth; the number of sentences is drawn evenly on a logarithmic scale."""
    low, high = lengths
    num_sentences = round(low * (high / low) ** rng.random())
    return build(rng, split, rng.choice(LANGUAGES), num_sentences=num_sentences, depth=rng.random())


def check(sample: Sample, answer: Answer) -> bool:
    """Whether the key is in the answer, and no other number."""
    numbers = "".join(char if char.isascii() and char.isdigit() else " " for char in answer.content).split()
    return numbers == [sample.facts["key"]]


TASK = Task("passkey", 1.0, generate, check)
