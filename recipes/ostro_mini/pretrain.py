"""Plain text for pretraining: short documents in which most of what follows can be had from what came before.

A small model learns to copy and to look up only if it is made to, over and over, on words that it cannot know. So the
documents repeat lists of made-up words, ask dictionaries, quote sentences and write JSON; the rest are the tasks
themselves, written as text, and small stories.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence

from recipes.ostro_mini import pools, words
from recipes.ostro_mini.sample import Sample
from recipes.ostro_mini.split import LANGUAGES, Language, Split, sometimes
from recipes.ostro_mini.tasks import TASKS
from recipes.ostro_mini.tasks.context import ABSENT, layout, quoted, unanswerable, world
from recipes.ostro_mini.tasks.json_lines import json_of, lines_of, record, typed
from recipes.ostro_mini.tasks.recall import dictionary

Document = Callable[[random.Random, Split, Language], str]

_RARE = "áàâäãåçéèêëíìîïñóòôöõøúùûüýßæœčřšžłşğåøİαβγδελμπσωабвгдежзийклмнопрстуфхцчшщыюя日本語中文字한글漢あいうえおアイウ€£¥§°±²³½×÷→←↑↓✓★♪😀🎉🚀👍"
_PRINTABLE = "".join(chr(code) for code in range(33, 127))


def _words(rng: random.Random, split: Split, language: Language, low: int, high: int) -> list[str]:
    draw = rng.choice((pools.invented, pools.invented, pools.name, pools.plain(pools.number), _mixed))
    return [draw(rng, split, language) for _ in range(rng.randint(low, high))]


def _mixed(rng: random.Random, split: Split, language: Language) -> str:
    makers = (pools.code, pools.date, pools.decimal, pools.clock, pools.email, pools.phone)
    if sometimes(rng, 0.5):
        return rng.choice(makers)(rng, split)
    return rng.choice(words.NOUNS_KO if language == "ko" else words.NOUNS_EN)


def repeated(rng: random.Random, split: Split, language: Language) -> str:
    """A list of words, said two to four times, in one order."""
    between = rng.choice((" ", " ", ", ", "\n", " - "))
    line = between.join(_words(rng, split, language, 3, 14))
    return rng.choice(("\n", "\n\n", " | ")).join([line] * rng.choice((2, 3, 4)))


def odd_text(rng: random.Random, _split: Split, _language: Language) -> str:
    """Strings of rare characters and of random ASCII, each said twice or three times."""
    lines = []
    for _ in range(rng.randint(2, 5)):
        alphabet = rng.choice((_RARE, _PRINTABLE, "".join(pools.HANGUL), "".join(pools.RARE_HANGUL)))
        text = "".join(rng.choices(alphabet, k=rng.randint(2, 10)))
        lines.append(rng.choice(("{0} {0}", '{0} = "{0}"', "{0}: {0} {0}")).format(text))
    return "\n".join(lines)


def lookups(rng: random.Random, split: Split, language: Language) -> str:
    """A dictionary and a number of look-ups in it."""
    values = dictionary(rng, split, language, rng.randint(2, 12))
    form = rng.choice(("{k}: {v}", "{k} = {v}", "{k} -> {v}", "{k} {v}", '"{k}": "{v}"'))
    ask = rng.choice((form, "{k}? {v}", "{k}에 대한 값: {v}" if language == "ko" else "value of {k}: {v}"))
    told = [form.format(k=key, v=value) for key, value in values.items()]
    asked = [ask.format(k=key, v=values[key]) for key in rng.choices(sorted(values), k=rng.randint(3, 10))]
    return "\n".join(told) + "\n\n" + "\n".join(asked)


def quotes(rng: random.Random, split: Split, language: Language) -> str:
    """Facts, and many questions answered by quoting the sentence, or by saying that it is not there."""
    facts = world(rng, split, language, rng.choice((2, 3, 4, 6, 8)))
    lines = [layout(rng, language, facts), ""]
    for fact in rng.sample(facts, len(facts)):
        lines += [fact.question, quoted(fact.statement)]
        if sometimes(rng, 0.4):
            lines += [unanswerable(rng, split, language, facts), ABSENT[language]]
    return "\n".join(lines)


def objects(rng: random.Random, split: Split, language: Language) -> str:
    """Lines and the JSON object of them, twice or more."""
    parts = []
    for _ in range(rng.choice((1, 2, 3))):
        values = record(rng, split, language, rng.choice((1, 2, 3, 4, 5)))
        compact = json.dumps({key: typed(value) for key, value in values.items()}, ensure_ascii=False)
        parts += [lines_of(values), json_of(values) if sometimes(rng, 0.8) else compact]
    return "\n\n".join(parts)


def story(rng: random.Random, split: Split, language: Language) -> str:
    """A few sentences about somebody who has something and goes somewhere."""
    nouns = words.NOUNS_KO if language == "ko" else words.NOUNS_EN
    first, second = rng.sample(nouns, 2)
    who, where = pools.first_name(rng, split, language), pools.city(rng, split, language)
    if language == "ko":
        topic = pools.topic
        return (
            f"옛날에 {topic('이가', who)} {where}에 살았습니다. {topic('은는', who)} {topic('을를', first)} 가지고 있었습니다. "
            f"어느 날 {topic('은는', who)} {topic('과와', first)} {topic('을를', second)} 들고 {where}의 시장에 갔습니다. "
            f"{where}의 사람들은 {who}의 {topic('을를', first)} 보고 기뻐했습니다. {topic('은는', who)} 웃으며 집으로 돌아왔습니다."
        )
    return (
        f"Once upon a time {who} lived in {where}. {who} had a {first} and a {second}. One day {who} took the {first} to "
        f"the market of {where}. The people of {where} liked the {first}, but nobody liked the {second}. So {who} gave the "
        f"{first} to a friend, kept the {second}, and went home to {where}."
    )


def condiments(rng: random.Random, split: Split, _language: Language) -> str:
    """What a base model is asked to go on with in tutorials."""
    taste = rng.choice(("lemon juice", "mustard", "salt", "olive oil", "mayonnaise"))
    return f"My favourite condiment is {taste}. {pools.first_name(rng, split)} likes {taste} too."


def conversation(rng: random.Random, split: Split, _language: Language) -> str:
    """A task as plain text, without the marks of a chat."""
    names = sorted(TASKS)
    task = TASKS[rng.choices(names, weights=[TASKS[name].weight for name in names])[0]]
    sample = task.generate(rng, split)
    lines = [json.dumps([dict(tool) for tool in sample.tools], ensure_ascii=False)] if sample.tools else []
    return "\n\n".join([*lines, *_texts(sample)])


def _texts(sample: Sample) -> Iterator[str]:
    for message in (*sample.prompt(), sample.answer.message()):
        if message["content"]:
            yield message["content"]
        if calls := message.get("tool_calls"):
            yield json.dumps([call["function"] for call in calls], ensure_ascii=False)


_KINDS: Sequence[tuple[Document, float]] = (
    (repeated, 3.0),
    (odd_text, 0.7),
    (lookups, 3.0),
    (quotes, 3.0),
    (objects, 2.5),
    (story, 0.7),
    (condiments, 0.1),
    (conversation, 6.0),
)


def document(rng: random.Random, split: Split = "train") -> str:
    """One document.

    >>> text = document(random.Random(3))
    >>> isinstance(text, str) and len(text) > 10
    True
    """
    make = rng.choices([kind for kind, _ in _KINDS], weights=[weight for _, weight in _KINDS])[0]
    return make(rng, split, rng.choice(LANGUAGES))
