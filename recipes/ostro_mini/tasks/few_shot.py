"""Few-shot imitation: the answer has the form that the examples before it have."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

from recipes.ostro_mini import pools
from recipes.ostro_mini.sample import Answer, Message, Sample, Task, assistant, same_text, system, user
from recipes.ostro_mini.split import LANGUAGES, Language, Split, several, sometimes
from recipes.ostro_mini.tasks.json_lines import json_of, lines_of, record, values_for

Shot = tuple[str, str]
_TAILS: Mapping[Language, tuple[str, ...]] = {
    "en": ("is converted to:", "becomes", "as JSON:"),
    "ko": ("는 다음과 같이 변환됩니다:", "JSON으로:"),
}
"""What may stand behind the lines of an example."""

_WRAPPERS = (
    "[{}]", "<{}>", "({})", "*{}*", "** {} **", "{}!", "{}?", "-> {}", "{} <-", "= {} =", "# {}", "{{{{{}}}}}", "{};",
    "Hello {}", "Dear {},", "{} is here", "my {}", "the {} song", "{} and {}", "{} {}", "{} / {}", "{} - {} - {}",
    "{}, please", "yes, {}", "{} 1", "{} 2 3", "name={}", "<b>{}</b>", "print('{}')", '"{}"', "{}.txt", "{}@home", "@{}",
    "안녕 {}", "{} 님", "{} 씨, 반가워요", "우리 {}", "{} 만세",
)  # fmt: skip
_SWAPS = ("{1}, {0}", "{1} {0}", "{1}-{0}", "{0}/{1}", "{0} -> {1}", "{1} = {0}", "({0}) [{1}]", "{0}+{1}", "{1}: {0}")
_SYSTEM: Mapping[Language, tuple[str, ...]] = {
    "en": ("Follow the examples.", "Answer in the same form as before.", "You are a helpful assistant."),
    "ko": ("예시를 따라 하세요.", "앞과 같은 형식으로 답하세요.", "당신은 도움이 되는 어시스턴트입니다."),
}
_LABELS: Mapping[Language, tuple[tuple[str, str], ...]] = {
    "en": (("Input", "Output"), ("Q", "A"), ("Text", "Result"), ("in", "out")),
    "ko": (("입력", "출력"), ("질문", "답"), ("글", "결과")),
}


def _wrapped(rng: random.Random, split: Split, language: Language, count: int) -> list[Shot]:
    form = rng.choice(_WRAPPERS)
    if sometimes(rng, 0.3):
        made = pools.invented(rng, split, language)
        form = rng.choice((f"{made} {{}}", f"{{}} {made}", f"{made}: {{}}"))
    draw = rng.choice((pools.first_name, pools.name, pools.city, pools.invented, pools.phrase))
    words = several(rng, count, lambda: draw(rng, split, language))
    return [(word, form.format(*[word] * 3)) for word in words]


def _swapped(rng: random.Random, split: Split, language: Language, count: int) -> list[Shot]:
    form, between = rng.choice(_SWAPS), rng.choice((" ", " ", ", ", " - ", "/"))
    pairs = several(rng, count, lambda: tuple(pools.name(rng, split, language) for _ in range(2)))
    return [(between.join(pair), form.format(*pair)) for pair in pairs]


def _records(rng: random.Random, split: Split, language: Language, count: int) -> list[Shot]:
    """Records of the same keys, written as JSON with an order and an indentation of their own."""
    keys = list(record(rng, split, language, rng.choice((2, 3, 3))))
    order = rng.choice((keys, keys[::-1], sorted(keys)))
    indent, margin = rng.choice((None, None, 1, 1, 0)), rng.choice(("", "", " "))
    tail = rng.choice(_TAILS[language]) if sometimes(rng, 0.3) else ""
    shots = []
    for number in range(count):
        values = values_for(rng, split, language, keys)
        lines = lines_of(values).replace("\n", f"\n{margin}")
        given = lines if number == count - 1 or not tail else f"\n{margin}{lines}\n{margin}{tail}"
        shots.append((given, json_of({key: values[key] for key in order}, indent)))
    return shots


_KINDS: Sequence[Callable[[random.Random, Split, Language, int], list[Shot]]] = (_wrapped, _wrapped, _swapped, _records)


def generate(rng: random.Random, split: Split) -> Sample:
    """Two to four examples and the input to answer, as turns of a conversation or as one prompt."""
    language = rng.choice(LANGUAGES)
    kind = rng.choice(_KINDS)
    shots = kind(rng, split, language, rng.choice((2, 3, 4) if kind is _records else (3, 3, 4, 5)))
    as_turns = sometimes(rng, 0.6)
    messages = _turns(rng, language, shots) if as_turns else [user(_prompt(rng, language, shots))]
    return Sample("few_shot", language, tuple(messages), Answer(shots[-1][1]), facts={"shots": len(shots) - 1})


def _turns(rng: random.Random, language: Language, shots: list[Shot]) -> list[Message]:
    """Turns; the first answer cannot be known, so it is not trained, the later ones are."""
    has_system = sometimes(rng, 0.4)
    messages: list[Message] = [system(rng.choice(_SYSTEM[language]))] if has_system else []
    for number, (given, output) in enumerate(shots[:-1]):
        messages += [user(given), assistant(output, trained=number > 0)]
    return [*messages, user(shots[-1][0])]


def _prompt(rng: random.Random, language: Language, shots: list[Shot]) -> str:
    given, output = rng.choice(_LABELS[language])
    done = "".join(f"{given}: {a}\n{output}: {b}\n\n" for a, b in shots[:-1])
    return f"{done}{given}: {shots[-1][0]}\n{output}:"


TASK = Task("few_shot", 1.5, generate, same_text)
