"""Sentences that state a fact, and the questions that they answer, in English and Korean.

In a statement and in its question the words of the relation and the subject stand side by side in the same form, as
far as the language allows: that is what a small model can match.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from recipes.ostro_mini import pools
from recipes.ostro_mini.pools import Draw, articles, plain, topic
from recipes.ostro_mini.split import Language, Split

_number = plain(pools.number)
_MOMENTS: Mapping[Language, tuple[str, ...]] = {
    "en": (
        "every Monday", "every Friday", "every morning", "every day", "once a week", "once a month", "twice a year", "in May",
        "in winter", "on Tuesdays", "on the first of March", "before lunch", "after the holidays", "every three years",
    ),
    "ko": (
        "매주 월요일에", "매주 금요일에", "매일 아침", "한 달에 한 번", "일주일에 한 번", "일 년에 두 번", "5월에", "겨울에",
        "점심 전에", "휴가 뒤에", "3월 1일에", "3년마다",
    ),
}  # fmt: skip
_AT: Mapping[Language, str] = {"en": "at {0}", "ko": "{0}에"}
_IS_DONE = "cleaned checked painted repaired opened closed used moved watered emptied washed tested".split()
_DID = "painted built found bought broke repaired sold designed brought opened".split()
_TO_DO = "clean open start repair move close carry".split()
_DOES_KO = "청소 점검 수리 사용 교체 세척 소독".split()


def _moment(rng: random.Random, split: Split, language: Language) -> str:
    """When, or how often."""
    if rng.random() < 0.25:
        return _AT[language].format(pools.clock(rng, split))
    return rng.choice(_MOMENTS[language])


_KOREAN_PARTICLES = ("은는", "이가", "을를", "과와")


@dataclass(frozen=True)
class Relation:
    """`{s}` is the subject and `{v}` the value; in Korean `{s:은는}` stands for the subject with its particle."""

    statement: str
    questions: tuple[str, ...]
    subject: str
    value: Draw


@dataclass(frozen=True)
class Fact:
    """A drawn fact: its sentence and one question for it. `topic` is the subject and `relation` says what of it."""

    subject: str
    relation: Relation
    statement: str
    question: str


_ENGLISH: Sequence[Relation] = (
    Relation("The capital of {s} is {v}.", ("What is the capital of {s}?", "Which city is the capital of {s}?"), "land", pools.name),
    Relation("The population of {s} is {v}.", ("What is the population of {s}?", "How large is the population of {s}?"), "land", _number),
    Relation("The language of {s} is called {v}.", ("What is the language of {s} called?", "What is the language of {s}?"), "land", pools.name),
    Relation("The currency of {s} is the {v}.", ("What is the currency of {s}?",), "land", pools.invented),
    Relation("The president of {s} is {v}.", ("Who is the president of {s}?",), "land", pools.person),
    Relation("The longest river in {s} is the {v}.", ("What is the longest river in {s}?",), "land", pools.name),
    Relation("The highest mountain in {s} is {v}.", ("What is the highest mountain in {s}?",), "land", pools.name),
    Relation("{s} was founded in {v}.", ("When was {s} founded?", "In which year was {s} founded?"), "firm", plain(pools.year)),
    Relation("{s} was founded by {v}.", ("Who founded {s}?", "By whom was {s} founded?"), "firm", pools.person),
    Relation("The head of {s} is {v}.", ("Who is the head of {s}?",), "firm", pools.person),
    Relation("The main office of {s} is in {v}.", ("Where is the main office of {s}?",), "firm", pools.city),
    Relation("{s} makes {v}.", ("What does {s} make?",), "firm", pools.phrase),
    Relation("{s} has {v} workers.", ("How many workers does {s} have?",), "firm", _number),
    Relation("{s} was born in {v}.", ("Where was {s} born?", "In which city was {s} born?"), "person", pools.city),
    Relation("{s} works as a {v}.", ("What does {s} work as?", "What is the job of {s}?"), "person", pools.invented),
    Relation("{s} lives in {v}.", ("Where does {s} live?", "In which city does {s} live?"), "person", pools.city),
    Relation("{s} studied in {v}.", ("Where did {s} study?",), "person", pools.city),
    Relation("{s} is married to {v}.", ("To whom is {s} married?", "Who is {s} married to?"), "person", pools.person),
    Relation("{s} likes to eat {v}.", ("What does {s} like to eat?",), "person", pools.phrase),
    Relation("{s} wrote a book about {v}.", ("What did {s} write a book about?",), "person", pools.phrase),
    Relation("Before college {s} mostly worked on {v} and on {v2}.", ("What did {s} work on before college?", "What two things did {s} work on before college?"), "person", pools.invented),
    Relation("The {s} opens at {v}.", ("When does the {s} open?", "At what time does the {s} open?"), "place", plain(pools.clock)),
    Relation("The {s} closes at {v}.", ("When does the {s} close?", "At what time does the {s} close?"), "place", plain(pools.clock)),
    Relation("A ticket for the {s} costs {v} euros.", ("How much is a ticket for the {s}?", "What does a ticket for the {s} cost?"), "place", _number),
    Relation("The {s} was built in {v}.", ("When was the {s} built?", "In which year was the {s} built?"), "place", plain(pools.year)),
    Relation("The door code of the {s} is {v}.", ("What is the door code of the {s}?",), "place", plain(pools.code)),
    Relation("The {s} stands in {v}.", ("Where does the {s} stand?", "Where is the {s}?"), "place", pools.city),
    Relation("The price of the {s} is {v}.", ("What is the price of the {s}?", "How much is the {s}?"), "thing", plain(pools.decimal)),
    Relation("The weight of the {s} is {v} grams.", ("What is the weight of the {s}?", "How heavy is the {s}?"), "thing", _number),
    Relation("The color of the {s} is {v}.", ("What is the color of the {s}?", "What color is the {s}?"), "thing", pools.invented),
    Relation("The {s} is in {v}.", ("Where is the {s}?",), "plain", pools.city),
    Relation("The {s} stands next to the {v}.", ("What does the {s} stand next to?",), "plain", pools.noun),
    Relation("The {s} belongs to {v}.", ("Who does the {s} belong to?", "To whom does the {s} belong?"), "plain", pools.person),
    Relation("The {s} is made of {v}.", ("What is the {s} made of?",), "plain", pools.noun),
    Relation("The {s} costs {v} dollars.", ("How much does the {s} cost?", "What does the {s} cost?"), "plain", _number),
    *(Relation(f"The {{s}} is {done} {{v}}.", (f"When is the {{s}} {done}?", f"How often is the {{s}} {done}?"), "plain", _moment) for done in _IS_DONE),
    *(Relation(f"{{v}} {did} the {{s}}.", (f"Who {did} the {{s}}?",), "plain", pools.person) for did in _DID),
    *(Relation(f"To {do} the {{s}}, use {{v}}.", (f"How do I {do} the {{s}}?", f"What do I use to {do} the {{s}}?"), "plain", pools.phrase) for do in _TO_DO),
)  # fmt: skip
_KOREAN: Sequence[Relation] = (
    Relation("{s}의 수도는 {v}입니다.", ("{s}의 수도는 어디인가요?", "{s}의 수도는?"), "land", pools.name),
    Relation("{s}의 인구는 {v}명입니다.", ("{s}의 인구는 몇 명인가요?", "{s}의 인구는?"), "land", _number),
    Relation("{s}의 언어는 {v}입니다.", ("{s}의 언어는 무엇인가요?",), "land", pools.name),
    Relation("{s}의 대통령은 {v}입니다.", ("{s}의 대통령은 누구인가요?",), "land", pools.person),
    Relation("{s}에서 가장 긴 강은 {v}입니다.", ("{s}에서 가장 긴 강은 무엇인가요?",), "land", pools.name),
    Relation("{s:은는} {v}년에 세워졌습니다.", ("{s:은는} 언제 세워졌나요?", "{s:은는} 몇 년에 세워졌나요?"), "firm", plain(pools.year)),
    Relation("{s}의 대표는 {v}입니다.", ("{s}의 대표는 누구인가요?",), "firm", pools.person),
    Relation("{s}의 본사는 {v}에 있습니다.", ("{s}의 본사는 어디에 있나요?",), "firm", pools.city),
    Relation("{s}의 직원은 {v}명입니다.", ("{s}의 직원은 몇 명인가요?",), "firm", _number),
    Relation("{s:은는} {v}에서 태어났습니다.", ("{s:은는} 어디에서 태어났나요?",), "person", pools.city),
    Relation("{s:은는} {v}에 삽니다.", ("{s:은는} 어디에 사나요?",), "person", pools.city),
    Relation("{s}의 직업은 {v}입니다.", ("{s}의 직업은 무엇인가요?",), "person", pools.invented),
    Relation("{s}의 취미는 {v}입니다.", ("{s}의 취미는 무엇인가요?",), "person", pools.invented),
    Relation("{s}의 친구는 {v}입니다.", ("{s}의 친구는 누구인가요?",), "person", pools.person),
    Relation("{s:은는} 대학에 오기 전에 주로 {v:과와} {v2:을를} 했습니다.", ("{s:은는} 대학에 오기 전에 주로 무엇을 했나요?", "{s:이가} 대학에 오기 전에 주로 했던 두 가지 일은 무엇이었나요?"), "person", pools.invented),
    Relation("{s:은는} {v}에 문을 엽니다.", ("{s:은는} 언제 문을 여나요?", "{s:은는} 몇 시에 문을 여나요?"), "place", plain(pools.clock)),
    Relation("{s:은는} {v}에 문을 닫습니다.", ("{s:은는} 언제 문을 닫나요?", "{s:은는} 몇 시에 문을 닫나요?"), "place", plain(pools.clock)),
    Relation("{s}의 입장료는 {v}원입니다.", ("{s}의 입장료는 얼마인가요?",), "place", _number),
    Relation("{s}의 비밀번호는 {v}입니다.", ("{s}의 비밀번호는 무엇인가요?",), "place", plain(pools.code)),
    Relation("{s}의 가격은 {v}원입니다.", ("{s}의 가격은 얼마인가요?",), "thing", _number),
    Relation("{s}의 무게는 {v}그램입니다.", ("{s}의 무게는 얼마인가요?",), "thing", _number),
    Relation("{s}의 색은 {v}입니다.", ("{s}의 색은 무엇인가요?",), "thing", pools.invented),
    Relation("{s:은는} {v}에 있습니다.", ("{s:은는} 어디에 있나요?",), "plain", pools.city),
    Relation("{s:은는} {v} 옆에 있습니다.", ("{s:은는} 무엇 옆에 있나요?",), "plain", pools.noun),
    Relation("{s}의 재료는 {v}입니다.", ("{s}의 재료는 무엇인가요?",), "plain", pools.noun),
    Relation("{s}의 주인은 {v}입니다.", ("{s}의 주인은 누구인가요?",), "plain", pools.person),
    Relation("{s:을를} 만든 사람은 {v}입니다.", ("{s:을를} 만든 사람은 누구인가요?", "{s:은는} 누가 만들었나요?"), "plain", pools.person),
    Relation("{s}의 값은 {v}원입니다.", ("{s}의 값은 얼마인가요?", "{s:은는} 얼마인가요?"), "plain", _number),
    *(Relation(f"{{s:은는}} {{v}} {do}합니다.", (f"{{s:은는}} 언제 {do}하나요?", f"{{s:은는}} 얼마나 자주 {do}하나요?"), "plain", _moment) for do in _DOES_KO),
)  # fmt: skip
RELATIONS: Mapping[Language, Sequence[Relation]] = {"en": _ENGLISH, "ko": _KOREAN}
KINDS = ("land", "firm", "person", "place", "thing", "plain")

_PLACES_EN = "library museum hotel school bakery theater station pool market garden tower bank".split()
_PLACES_KO = "도서관 박물관 호텔 학교 빵집 극장 역 수영장 시장 정원 탑 은행".split()
_THINGS_EN = "lamp phone clock camera chair bike radio table guitar piano kettle backpack".split()
_THINGS_KO = "램프 전화기 시계 카메라 의자 자전거 라디오 책상 기타 피아노 주전자 가방".split()


def subject(rng: random.Random, split: Split, language: Language, kind: str) -> str:
    """A name for a subject of the kind: `Kavora`, `Tren Kolo`, `library of Kavora`, `oven`."""
    if kind == "person":
        return pools.person(rng, split, language)
    if kind == "plain":
        return pools.noun(rng, split, language)
    made = pools.name(rng, split, language)
    if kind in ("land", "firm"):
        return made
    if language == "ko":
        return f"{made} {rng.choice(_PLACES_KO if kind == 'place' else _THINGS_KO)}"
    if kind == "place":
        return f"{rng.choice(_PLACES_EN)} of {made}"
    return f"{made} {rng.choice(_THINGS_EN)}"


def state(rng: random.Random, split: Split, language: Language, about: str, relation: Relation) -> Fact:
    """The relation of this subject with drawn values, and one of its questions."""
    values = {"s": about, "v": relation.value(rng, split, language), "v2": relation.value(rng, split, language)}
    return Fact(about, relation, _fill(relation.statement, values), ask(rng, about, relation))


def ask(rng: random.Random, about: str, relation: Relation) -> str:
    """A question for the relation of this subject, whether it was stated or not."""
    return _fill(rng.choice(relation.questions), {"s": about})


def _fill(form: str, values: Mapping[str, str]) -> str:
    for key, value in values.items():
        form = form.replace(f"{{{key}}}", value)
        for particle in _KOREAN_PARTICLES:
            if f"{{{key}:{particle}}}" in form:
                form = form.replace(f"{{{key}:{particle}}}", topic(particle, value))
    return articles(form)
