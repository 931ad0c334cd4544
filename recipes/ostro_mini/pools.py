"""Names, numbers and other values, drawn from one side of the split.

Most names are made of random syllables: there are millions of them, so a model that has learned them by heart has
learned nothing, and the only way to lower the loss is to copy.
"""

from __future__ import annotations

import random
import re
import string
from collections.abc import Callable

from recipes.ostro_mini import words
from recipes.ostro_mini.split import Language, Split, draw, pick, sometimes

_ONSETS = "b c d f g h j k l m n p r s t v w z br ch cl dr fl gr kr pl pr sh sl st th tr".split()
_VOWELS = "a e i o u a e i o u ai ea ou".split()
_CODAS = ["", "", "", "", "n", "r", "l", "s", "m", "t", "k", "nd", "rt", "x"]
_HANGUL_INITIALS = (0, 2, 3, 5, 6, 7, 9, 11, 12, 14, 15, 16, 17, 18)
_HANGUL_VOWELS = (0, 1, 4, 5, 8, 13, 18, 20)
_HANGUL_FINALS = (0, 1, 4, 8, 16, 17, 21)


_HANGUL_FREQUENT = (
    "겨격견결겸경계고과관광교구국군권귀규균극근글금급긍기까깨꾸꿈끝끼나남녀년념녕노뉴느능늘니다달담답당대댁더덕던덜데도독돈동되된될두둘둥뒤드득든들등디따딸때떡떤떻또뚜뜻라락란랑래량러런럼렇레려력련렬령례로록론롭료루류륙률르른를름리린림립"
    "마막만많말맑망맞매맥머먹먼멀메며면명몇모목몰못무묵문물뭐미민밀바밖반받발밝방배백번벌법벗베벽변별병보복본볼봄봉부북분불붉비빈빛빠빨뿐쁘사산살삼상새생서석선설섭성세셋소속손솔송쇼수숙순술숨숲쉬스슨슬습승시식신실싫심십싶싸써쓰씨아악안않알압앞애액야약양얘어억언얼엄업없었에여역연열염엽영예오옥온올옷와완왕왜외요욕용우욱운울움웃원월위유육윤율융으은을음응의이익인일읽임입있잊자작잔잘잠장재쟁저적전절점접정제져조족존졸종좋좌죄주죽준줄중즉즐증지직진질짐집짓징짜째쪽차착찬찰참창찾채책처척천철첫청체쳐초촉총최추축출충취측층치칙친칠침칭카커켜코콩쾌크큰클키타탁탄탈탑태택터테토통투트특틀티팀파판팔패퍼펴편평폐포폭표푸품풍프피필하학한할함합항해핵행향허험혀혁현혈협형혜호혹홀홍화확환활황회획효후훈훌휘휴흐흑흔흘흥희흰히힘"
)


def _hangul() -> tuple[str, ...]:
    """A regular grid of syllables, and those that real names and words have most."""
    grid = (
        chr(0xAC00 + (initial * 21 + vowel) * 28 + final)
        for initial in _HANGUL_INITIALS
        for vowel in _HANGUL_VOWELS
        for final in _HANGUL_FINALS
    )
    return tuple(dict.fromkeys([*(char for char in grid if _is_common(char)), *_HANGUL_FREQUENT]))


def _is_common(char: str) -> bool:
    """Whether a syllable is one of the 2350 that KS X 1001 has; the codec spells the others out in eight bytes."""
    return len(char.encode("euc_kr")) == 2


HANGUL = _hangul()
"""The syllables of which made-up Korean names are built."""

RARE_HANGUL = tuple(sorted({char for char in map(chr, range(0xAC00, 0xD7A4)) if _is_common(char)} - set(HANGUL)))
"""The other syllables of KS X 1001."""


def syllables(rng: random.Random) -> str:
    """A made-up lower-case word, of plain syllables or as irregular as words of English are; a few are words.

    >>> syllables(random.Random(1)).isalpha()
    True
    """
    return _plain_word(rng) if sometimes(rng, 0.5) else _wide_word(rng)


def _plain_word(rng: random.Random) -> str:
    count = rng.choice((2, 2, 2, 3))
    return "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in range(count)) + rng.choice(_CODAS)


def _wide_word(rng: random.Random) -> str:
    """A word of English, a word of pieces of two, or letters: what is never copied in training cannot be copied after it."""
    kind = rng.random()
    if kind < 0.2:
        return "".join(rng.choices(string.ascii_lowercase, k=rng.randint(2, 9)))
    if kind < 0.45:
        return rng.choice(words.COMMON)
    return "".join(_piece(rng, rng.choice(_SOURCES)) for _ in range(2)).lower()


_SOURCES = (*words.COMMON, *words.FIRST_NAMES, *words.LAST_NAMES, *words.CITIES_EN * 3)


def _piece(rng: random.Random, word: str) -> str:
    """Two to seven letters that stand side by side in a word; as often as not its beginning or its end."""
    size = min(len(word), rng.randint(2, 7))
    start = rng.choice((0, len(word) - size, rng.randint(0, len(word) - size)))
    return word[start : start + size]


def hangul_word(rng: random.Random) -> str:
    """A made-up Korean word of two or three syllables, at times with a piece of a city's name in it."""
    if sometimes(rng, 0.2):
        parts = [_piece(rng, rng.choice(words.CITIES_KO))[:2], *rng.choices(HANGUL, k=rng.choice((1, 2)))]
        rng.shuffle(parts)
        return "".join(parts)
    return "".join(rng.choices(HANGUL, k=rng.choice((2, 2, 3))))


def invented(rng: random.Random, split: Split, language: Language = "en") -> str:
    """A made-up common word."""
    return draw(rng, split, syllables if language == "en" else hangul_word)


def name(rng: random.Random, split: Split, language: Language = "en") -> str:
    """A made-up proper name of one word."""
    return draw(rng, split, hangul_word if language == "ko" else lambda r: syllables(r).capitalize())


def first_name(rng: random.Random, split: Split, language: Language = "en") -> str:
    """A given name; half of the English ones are real."""
    if language == "ko":
        return draw(rng, split, lambda r: "".join(r.choices(HANGUL, k=2)))
    return pick(rng, split, words.FIRST_NAMES) if sometimes(rng, 0.5) else name(rng, split)


def last_name(rng: random.Random, split: Split, language: Language = "en") -> str:
    """A family name; half of the English ones are real. Korean ones are few and on both sides."""
    if language == "ko":
        return rng.choice(words.KOREAN_FAMILY_NAMES)
    return pick(rng, split, words.LAST_NAMES) if sometimes(rng, 0.5) else name(rng, split)


def person(rng: random.Random, split: Split, language: Language = "en") -> str:
    """A full name: `Maro Kelvin`, `김도윤`."""
    if language == "ko":
        return draw(rng, split, lambda r: r.choice(words.KOREAN_FAMILY_NAMES) + "".join(r.choices(HANGUL, k=2)))
    return f"{first_name(rng, split)} {last_name(rng, split)}"


def city(rng: random.Random, split: Split, language: Language = "en") -> str:
    """A city, real or made up."""
    if sometimes(rng, 0.4):
        return pick(rng, split, words.CITIES_KO if language == "ko" else words.CITIES_EN)
    return name(rng, split, language)


def number(rng: random.Random, split: Split, low: int = 10, high: int = 9999) -> str:
    """A whole number, its length drawn before its value so that short ones are not rare."""

    def make(r: random.Random) -> str:
        digits = r.randint(len(str(low)), len(str(high)))
        return str(r.randint(max(low, 10 ** (digits - 1)), min(high, 10**digits - 1)))

    return draw(rng, split, make)


def digits(rng: random.Random, split: Split, count: int) -> str:
    """So many digits, the first of them not 0."""
    return draw(rng, split, lambda r: str(r.randint(10 ** (count - 1), 10**count - 1)))


def decimal(rng: random.Random, split: Split) -> str:
    """A number with one or two decimals, the last of them not 0."""
    return draw(rng, split, lambda r: f"{r.randint(1, 999)}.{r.choice(('', str(r.randint(0, 9))))}{r.randint(1, 9)}")


def year(rng: random.Random, split: Split) -> str:
    """A year of 1500 to 2030."""
    return draw(rng, split, lambda r: str(r.randint(1500, 2030)))


def date(rng: random.Random, split: Split) -> str:
    """A date: `2026-05-17`."""
    return draw(rng, split, lambda r: f"{r.randint(1990, 2035)}-{r.randint(1, 12):02}-{r.randint(1, 28):02}")


def clock(rng: random.Random, split: Split) -> str:
    """A time of day: `18:30`."""
    return draw(rng, split, lambda r: f"{r.randint(0, 23)}:{r.randint(0, 59):02}")


def phone(rng: random.Random, split: Split) -> str:
    """A phone number: `010-1234-5678`."""
    return draw(
        rng, split, lambda r: f"{r.choice(('010', '02', '555'))}-{r.randint(100, 9999)}-{r.randint(1000, 9999)}"
    )


def code(rng: random.Random, split: Split) -> str:
    """Letters, a dash and digits: `KX-4821`."""
    letters = "ABCDEFGHJKLMNPRSTUVWXYZ"
    return draw(rng, split, lambda r: "".join(r.choices(letters, k=r.choice((2, 3)))) + f"-{r.randint(10, 9999)}")


def street(rng: random.Random, split: Split) -> str:
    """An address: `#1 Samuel St.`."""
    kind = rng.choice(("St.", "Street", "Road", "Ave."))
    return f"{rng.choice(('#', '', ''))}{number(rng, split, 1, 999)} {name(rng, split)} {kind}"


def email(rng: random.Random, split: Split) -> str:
    """An address: `maro@kelvin.com`."""
    return f"{invented(rng, split)}@{invented(rng, split)}.{rng.choice(('com', 'org', 'net', 'kr'))}"


def phrase(rng: random.Random, split: Split, language: Language = "en") -> str:
    """Two or three common words with one made-up one among them."""
    common = words.NOUNS_KO if language == "ko" else words.NOUNS_EN
    parts = [*rng.sample(common, rng.choice((1, 2))), invented(rng, split, language)]
    rng.shuffle(parts)
    return " ".join(parts)


_NOUNS_EN = (*words.NOUNS_EN, *words.COMMON)


def noun(rng: random.Random, split: Split, language: Language = "en") -> str:
    """A plain word, or a made-up one, that stands for a thing."""
    if sometimes(rng, 0.3):
        return invented(rng, split, language)
    return pick(rng, split, words.NOUNS_KO if language == "ko" else _NOUNS_EN)


Draw = Callable[[random.Random, Split, Language], str]


def plain(make: Callable[[random.Random, Split], str]) -> Draw:
    """A pool that is the same in every language."""
    return lambda rng, split, _language: make(rng, split)


def articles(text: str) -> str:
    """English text with `an` where `a` stands before a vowel.

    >>> articles("A awesome umbrella is a joy.")
    'An awesome umbrella is a joy.'
    """
    return re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", text)


def topic(particle: str, word: str) -> str:
    """A Korean word with the form of its particle that fits: `은는`, `이가`, `을를`, `과와`.

    >>> topic("은는", "서울"), topic("은는", "부산시가지")
    ('서울은', '부산시가지는')
    """
    return word + (particle[0] if _has_final(word[-1]) else particle[1])


def _has_final(char: str) -> bool:
    if "가" <= char <= "힣":
        return (ord(char) - 0xAC00) % 28 > 0
    return char in "013678lmnrLMNR"
