"""Small Python functions on request: Celsius and Fahrenheit, FizzBuzz."""

from __future__ import annotations

import ast
import random
from collections.abc import Mapping
from dataclasses import dataclass

from recipes.ostro_mini import pools
from recipes.ostro_mini.sample import Answer, Message, Sample, Task, system, user
from recipes.ostro_mini.split import LANGUAGES, Language, Split, sometimes


@dataclass(frozen=True)
class Program:
    """A function: its usual name, its source with `{name}` for it, and what one may say to get it."""

    name: str
    source: str
    asked: Mapping[Language, tuple[str, ...]]


PROGRAMS = (
    Program(
        "celsius_to_fahrenheit",
        "def {name}(celsius):\n    return celsius * 9 / 5 + 32",
        {
            "en": ("converts Celsius to Fahrenheit", "to convert Celsius to Fahrenheit", "turns Celsius into Fahrenheit"),
            "ko": ("섭씨를 화씨로 변환하는", "섭씨를 화씨로 바꾸는"),
        },
    ),
    Program(
        "fahrenheit_to_celsius",
        "def {name}(fahrenheit):\n    return (fahrenheit - 32) * 5 / 9",
        {
            "en": ("converts Fahrenheit to Celsius", "to convert Fahrenheit to Celsius", "turns Fahrenheit into Celsius"),
            "ko": ("화씨를 섭씨로 변환하는", "화씨를 섭씨로 바꾸는"),
        },
    ),
    Program(
        "fizz_buzz",
        "def {name}(n):\n    for i in range(1, n + 1):\n        if i % 15 == 0:\n            print(\"FizzBuzz\")\n"
        "        elif i % 3 == 0:\n            print(\"Fizz\")\n        elif i % 5 == 0:\n            print(\"Buzz\")\n"
        "        else:\n            print(i)",
        {
            "en": ("to the fizz buzz test", "for FizzBuzz", "that prints FizzBuzz", "to solve the fizz buzz test"),
            "ko": ("FizzBuzz를 출력하는", "피즈버즈 문제를 푸는", "fizz buzz 테스트를 위한"),
        },
    ),
)  # fmt: skip
_ASK: Mapping[Language, tuple[str, ...]] = {
    "en": (
        "Can you write a Python function {what}?", "Write a Python function {what}.", "Please write a function {what}.",
        "Create a Python function {what}.", "I need a Python function {what}.",
    ),
    "ko": (
        "{what} Python 함수를 만드세요.", "{what} Python 함수를 작성해 주세요.", "{what} 파이썬 함수를 써 주세요.",
        "{what} 함수를 만들어 줄 수 있나요?",
    ),
}  # fmt: skip
_NAMED: Mapping[Language, tuple[str, ...]] = {
    "en": (" Name it {name}.", " Call the function {name}.", " Its name is {name}."),
    "ko": (" 이름은 {name}입니다.", " 함수 이름은 {name}으로 하세요."),
}
_SYSTEM: Mapping[Language, tuple[str, ...]] = {
    "en": (
        "You are a helpful coding assistant.",
        "You are a helpful code assistant that writes Python. Generate the function only and avoid explanations.",
    ),
    "ko": (
        "당신은 도움이 되는 코드 어시스턴트입니다.",
        "당신은 사용자 요청에 대한 Python 코드 작성을 돕는 도움이 되는 코드 어시스턴트입니다. 함수만 생성하고 설명을 피해주세요.",
    ),
}


def generate(rng: random.Random, split: Split) -> Sample:
    """A request for one of the functions, most often with a name for it that is drawn."""
    language = rng.choice(LANGUAGES)
    program = rng.choice(PROGRAMS)
    what = rng.choice(program.asked[language])
    if language == "en" and what.startswith(("converts", "turns")):
        what = f"that {what}"
    asked, name = rng.choice(_ASK[language]).format(what=what), program.name
    if split == "heldout" or sometimes(rng, 0.5):
        name = f"{pools.invented(rng, split)}_{rng.choice(('to', 'of', 'run', 'make'))}_{pools.invented(rng, split)}"
        asked += rng.choice(_NAMED[language]).format(name=name)
    messages: list[Message] = [system(rng.choice(_SYSTEM[language]))] if sometimes(rng, 0.4) else []
    return Sample("function", language, (*messages, user(asked)), Answer(program.source.format(name=name)))


def check(sample: Sample, answer: Answer) -> bool:
    """Whether the answer is the same program, its spaces and line breaks aside; a fence around it is allowed."""
    text = answer.content.strip().removeprefix("```python").removeprefix("```").removesuffix("```")
    try:
        return ast.dump(ast.parse(text.strip())) == ast.dump(ast.parse(sample.answer.content))
    except (SyntaxError, ValueError):
        return False


TASK = Task("function", 0.5, generate, check)
