"""The results as Markdown: best settings side by side, the targets, and every setting that was tried."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterator

from peers.results import Entry, Results, spread
from peers.rows import ROWS

OURS = "ostro"
DENSE = "ostro, dense"
"""The dense model that a mixture of experts is compared with."""
_PEER = "llama.cpp"
_BOUND_BY = {"prefill": "int8_gops", "decode": "dram_gb_per_s"}
"""The ceiling that a row is held against; a large batch is bound by both."""
_OWN_SHARES = {"prefill": ("prefill_share", 512), "decode": ("decode_share", 1), "decode8": ("decode_share", 8)}


def section(results: Results) -> str:
    """A section of the page, from its heading to its last note."""
    parts = [
        [heading(results), "", *_facts(results), ""],
        _rows_table(results),
        ["", "Targets:", "", *_targets_table(results)],
        ["", "Every setting, measured once to choose those of the rounds (tokens/s):", "", *_survey_table(results)],
    ]
    notes = [f"- {note}" for note in [*_standing_notes(results), *results.notes]]
    return "\n".join([line for part in parts for line in part] + ["", *notes]) + "\n"


def heading(results: Results) -> str:
    """The heading that a section is found by."""
    return f"## {results.shape}, {results.layers} of {results.all_layers} layers"


def merged(page: str, results: Results) -> str:
    """The page with the section of this shape and number of layers replaced or added."""
    new = section(results)
    pattern = re.compile(re.escape(heading(results)) + r"\n.*?(?=^## |\Z)", re.DOTALL | re.MULTILINE)
    if pattern.search(page):
        return pattern.sub(lambda _: new + "\n", page, count=1).rstrip() + "\n"
    return f"{page.rstrip()}\n\n{new}"


def _facts(results: Results) -> Iterator[str]:
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    machine = results.machine
    yield (
        f"`{results.command}`, {results.date}: {machine['cpu']}, {machine['memory_gb']:.0f} GB, {machine['system']}; "
        f"{results.threads} threads; {versions}."
    )
    yield ""
    yield (
        f"Medians of {results.repeats} rounds in which the engines ran in turn, with the lowest and highest value in "
        f"brackets; {results.minutes:.0f} minutes; load average before the start {results.load:.2f}."
    )
    dram, int8 = results.ceiling("dram_gb_per_s"), results.ceiling("int8_gops")
    if dram and int8:
        yield (
            f"Ceilings, measured by `ostro bench` in the same rounds: reading memory {dram:.1f} GB/s, integer products "
            f"{int8:.0f} GOPS."
        )


def _rows_table(results: Results) -> Iterator[str]:
    yield "| what | engine | its best setting | tokens/s | of the ceiling | ostro is |"
    yield "|---|---|---|---|---|---|"
    for row, title in ROWS.items():
        ours = results.median(OURS, row)
        for engine in dict.fromkeys(entry.engine for entry in results.entries):
            best = results.best(engine, row)
            if best is None:
                continue
            share = _share(results, best, row)
            against = None if engine == OURS or ours is None else _ratio(results, engine, row)
            ratio = "" if against is None else f"{against:.2f} x"
            yield f"| {title} | {engine} | {best.setting} | {spread(best.rounds[row])} | {_percent(share)} | {ratio} |"


def _ratio(results: Results, engine: str, row: str) -> float | None:
    """How many times as fast ostro is: in the same state of the machine, or plainly where its ceilings are unknown."""
    ours, theirs = results.best(OURS, row), results.best(engine, row)
    return None if ours is None or theirs is None else _times_as_fast(ours, row, theirs, row)


def _times_as_fast(one: Entry, row: str, other: Entry, other_row: str) -> float:
    matched = one.times_as_fast(row, other, other_row, _BOUND_BY.get(row, "dram_gb_per_s"))
    return matched or statistics.median(one.rounds[row]) / statistics.median(other.rounds[other_row])


def _share(results: Results, entry: Entry, row: str) -> float | None:
    """The part of the ceiling that an engine's median comes to."""
    if entry.engine == OURS:
        return results.own_share(*_OWN_SHARES[row])
    if row not in _BOUND_BY:
        return None
    rate = entry.relative(row, _BOUND_BY[row])
    ceiling = results.ceiling(_BOUND_BY[row])
    if rate is None and ceiling:
        rate = statistics.median(entry.rounds[row]) / (ceiling * 1e9)
    kind = entry.setting.split(",")[0]
    work = results.prefill_operations / 512 if row == "prefill" else results.decode_bytes.get(kind)
    return None if rate is None or work is None else work * rate


def _batch_bound(results: Results) -> float | None:
    """How many times the tokens of batch 1 batch 8 can bring at most: read once, multiply eight times."""
    rate, share = results.median(OURS, "decode"), results.own_share("decode_share", 1)
    int8 = results.ceiling("int8_gops")
    if not rate or not share or not int8:
        return None
    reading = share / rate
    multiplying = 8 * results.prefill_operations / 512 / (int8 * 1e9)
    return 8 * reading / max(reading, multiplying)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f} %"


def _targets_table(results: Results) -> Iterator[str]:
    yield "| what | measured | must reach | aim |"
    yield "|---|---|---|---|"
    for what, value, must, aim, unit in _targets(results):
        scale = 100 if unit == "%" else 1
        measured = "not measured" if value is None else f"{value * scale:.{0 if unit == '%' else 2}f} {unit}"
        bounds = [f"{bound * scale:g} {unit}{_verdict(value, bound, what)}" for bound in (must, aim)]
        yield f"| {what} | {measured} | {bounds[0]} | {bounds[1]} |"


def _verdict(value: float | None, bound: float, what: str) -> str:
    if value is None:
        return ""
    reached = value <= bound if what.startswith("MoE") else value >= bound
    return ": reached" if reached else ": not reached"


def _targets(results: Results) -> Iterator[tuple[str, float | None, float, float, str]]:
    """What, the value, what it must reach, what it aims at, and the unit."""

    moe = _ratio(results, DENSE, "decode")
    if moe is not None:
        yield "MoE: time per decoded token over a dense model", 1 / moe, 1.15, 1.05, "x"
        return
    yield "decode, batch 1: share of the DRAM bandwidth", results.own_share("decode_share", 1), 0.80, 0.92, "%"
    yield f"decode, batch 1: against the best {_PEER}", _ratio(results, _PEER, "decode"), 1.4, 1.7, "x"
    yield "prefill 512: share of the integer peak", results.own_share("prefill_share", 512), 0.45, 0.70, "%"
    yield f"prefill 512: against the best {_PEER}", _ratio(results, _PEER, "prefill"), 1.6, 2.5, "x"
    ours = results.best(OURS, "decode"), results.best(OURS, "decode8")
    gain = None if None in ours else _times_as_fast(ours[1], "decode8", ours[0], "decode")
    yield "decode at batch 8 (sum), against own batch 1", gain, 5, 7, "x"


def _survey_table(results: Results) -> Iterator[str]:
    yield "| engine | setting | " + " | ".join(ROWS.values()) + " |"
    yield "|---|---|" + "---|" * len(ROWS)
    for entry in results.entries:
        if entry.once:
            cells = [f"{entry.once[row]:.2f}" if row in entry.once else "" for row in ROWS]
            yield f"| {entry.engine} | {entry.setting} | " + " | ".join(cells) + " |"


def _standing_notes(results: Results) -> Iterator[str]:
    kinds = ", ".join(f"{kind} {size / 1e9:.2f} GB" for kind, size in results.decode_bytes.items())
    yield (
        "Peers run GGUF files of random blocks of the shape, the output matrix being Q6_K as llama.cpp's own quantizer "
        f"has it. A decode step reads {kinds} of them; `ostro bench` counts its own bytes. Ceilings are those above."
    )
    if bound := _batch_bound(results):
        yield (
            f"At these ceilings batch 8 can bring at most {bound:.1f} times the tokens of batch 1: reading the weights "
            "once, multiplying them eight times."
        )
    if any(entry.looks for entry in results.entries):
        yield (
            "The ceilings were measured before and after every run too. Shares of the peers are of rates over the mean "
            "of the two. 'ostro is' and the ratios of the targets are medians over all pairs of runs whose ceilings "
            "differ by less than a tenth, so that it does not matter which engine met the machine in a better moment; "
            "tokens/s are as they came."
        )
    yield (
        "All decode 64 tokens behind 128 (`ostro bench`: up to 100 in ten seconds, median of the steps; the peers' own "
        "programs give the mean of a run). Prefill is 512 tokens in one batch, once warm."
    )
