"""Sentiment of short texts: positive, negative or neutral."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from functools import partial

from recipes.ostro_mini import pools, words
from recipes.ostro_mini.sample import Answer, Message, Sample, Task, assistant, system, user
from recipes.ostro_mini.split import LANGUAGES, Language, Split, draw, pick, sometimes

LABELS: Mapping[Language, Mapping[str, str]] = {
    "en": {"positive": "positive", "negative": "negative", "neutral": "neutral"},
    "ko": {"positive": "긍정", "negative": "부정", "neutral": "중립"},
}
_ADJECTIVES: Mapping[Language, Mapping[str, Sequence[str]]] = {
    "en": {
        "positive": "good great wonderful excellent lovely fantastic beautiful amazing perfect nice delightful superb "
        "brilliant charming awesome".split(),
        "negative": "bad terrible awful horrible poor disappointing ugly dreadful boring useless broken nasty annoying "
        "disgusting dirty".split(),
        "neutral": "red blue green small large round square wooden grey flat white black long short old".split(),
    },
    "ko": {
        "positive": ("좋았습니다", "훌륭했습니다", "멋졌습니다", "완벽했습니다", "아름다웠습니다", "최고였습니다", "마음에 들었습니다", "즐거웠습니다"),
        "negative": ("나빴습니다", "끔찍했습니다", "형편없었습니다", "실망스러웠습니다", "지루했습니다", "최악이었습니다", "불쾌했습니다", "엉망이었습니다"),
        "neutral": ("빨간색이었습니다", "작았습니다", "둥글었습니다", "네모났습니다", "하얀색이었습니다", "길었습니다", "나무로 만들어졌습니다", "평평했습니다"),
    },
}  # fmt: skip
_VERBS: Mapping[str, Sequence[str]] = {
    "positive": (
        "I love the {n}.",
        "I really like this {n}.",
        "What a joy, the {n} made my day!",
        "I enjoyed the {n}.",
    ),
    "negative": ("I hate the {n}.", "I do not like this {n}.", "The {n} ruined my day.", "I regret buying the {n}."),
    "neutral": ("The {n} is on the table.", "I bought the {n} on Monday.", "This is a {n}.", "The {n} came by mail."),
}
_VERBS_KO: Mapping[str, Sequence[str]] = {
    "positive": ("이 {n} 정말 사랑해요.", "{n} 덕분에 행복한 하루였어요."),
    "negative": ("이 {n} 정말 싫어요.", "{n} 때문에 하루를 망쳤어요."),
    "neutral": ("{n} 월요일에 샀어요.", "이것은 {n} 하나입니다."),
}
_ASK: Mapping[Language, tuple[str, ...]] = {
    "en": (
        "Classify the sentiment of the text as positive, negative or neutral.\n\nText: {t}\nSentiment:",
        "What is the sentiment of this text: {t}",
        "Is this review positive, negative or neutral?\n{t}",
        "Sentiment: {t}",
    ),
    "ko": (
        "다음 글의 감정을 긍정, 부정, 중립 중 하나로 분류하세요.\n\n글: {t}\n감정:",
        "이 글의 감정은 무엇인가요: {t}",
        "이 리뷰는 긍정, 부정, 중립 중 무엇인가요?\n{t}",
    ),
}
_SYSTEM: Mapping[Language, str] = {
    "en": "Classify the sentiment of each text as positive, negative or neutral.",
    "ko": "각 글의 감정을 긍정, 부정, 중립 중 하나로 분류하세요.",
}


def sentence(rng: random.Random, split: Split, language: Language, mood: str) -> str:
    """A sentence of this mood about something whose noun lies on the wanted side."""
    noun = pick(rng, split, words.NOUNS_KO if language == "ko" else words.NOUNS_EN)
    if sometimes(rng, 0.3):
        return pools.articles(rng.choice((_VERBS_KO if language == "ko" else _VERBS)[mood]).format(n=noun))
    if language == "ko":
        return f"{rng.choice(('이 ', '그 ', '어제 본 ', ''))}{noun} {rng.choice(('정말 ', '아주 ', ''))}{_word(rng, language, mood)}."
    return _english(rng, noun, mood)


def _english(rng: random.Random, noun: str, mood: str) -> str:
    if mood != "neutral" and sometimes(rng, 0.2):
        other = "negative" if mood == "positive" else "positive"
        return f"The {noun} was not {_word(rng, 'en', other)} at all."
    how = rng.choice(("", "really ", "very ", "so "))
    form = rng.choice(("The {n} was {h}{a}.", "This {n} is {h}{a}!", "A {h}{a} {n}.", "My new {n} is {h}{a}."))
    return pools.articles(form.format(n=noun, h=how, a=_word(rng, "en", mood)))


def _word(rng: random.Random, language: Language, mood: str) -> str:
    return rng.choice(_ADJECTIVES[language][mood])


def generate(rng: random.Random, split: Split) -> Sample:
    """One to four texts to classify; the texts themselves lie on the wanted side too."""
    language = rng.choice(LANGUAGES)
    has_system = sometimes(rng, 0.25)
    turns = 1 if has_system else rng.choice((1, 1, 2, 3, 4))
    messages: list[Message] = [system(_SYSTEM[language])] if has_system else []
    for number in range(turns):
        mood = rng.choice(tuple(LABELS["en"]))
        text = draw(rng, split, partial(sentence, split=split, language=language, mood=mood))
        asked = "{t}" if has_system or (number and sometimes(rng, 0.5)) else rng.choice(_ASK[language])
        label = LABELS[language][mood]
        messages += [user(asked.format(t=text)), assistant(label)]
    wrong = rng.choice([other for other in LABELS[language].values() if other != label])
    return Sample("sentiment", language, tuple(messages[:-1]), Answer(label), rejected=Answer(wrong))


def check(sample: Sample, answer: Answer) -> bool:
    """Whether the answer is the label, whatever its case and full stop."""
    return not answer.tool_calls and answer.content.strip().strip(".").lower() == sample.answer.content


TASK = Task("sentiment", 0.8, generate, check)
