"""A report of `ostro bench` for a person: tables with bars, and what lies around them."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.text import Text

from ostro.bench.report import CEILINGS, Ceiling, Point, Report
from ostro.cli.console import count, decimal_size, facts, plural, print_table, stdout, table

_BAR = 20


def show(report: Report) -> None:
    """The whole report on stdout."""
    stdout().print(_head(report), soft_wrap=True)
    if report.prefill:
        _points("PREFILL", report.prefill, report, report.prefill_ceiling)
    if report.decode:
        _points("DECODE", report.decode, report, "dram_gb_per_s")
    stdout().print()
    facts(_facts(report))


def _head(report: Report) -> str:
    subject = report.subject
    layers, whole = subject["num_layers"], subject["num_layers_of_model"]
    words = [subject["model"], f"{layers} of {whole} layers" if layers != whole else plural(whole, "layer")]
    if subject["bits"] is not None:
        words.append(f"{subject['bits']} bits" + (f" ({subject['codebook']})" if subject["codebook"] else ""))
    parameters = f"{count(subject['num_parameters'])} parameters"
    if subject["num_active_parameters"] != subject["num_parameters"]:
        parameters += f", of which {count(subject['num_active_parameters'])} are active for a token"
    return f"{', '.join(words)}: {parameters}"


def _points(name: str, points: Sequence[Point], report: Report, ceiling: Ceiling) -> None:
    sizes = "TOKENS" if name == "PREFILL" else "BATCH"
    columns = [f"{name} {sizes}", "TOKENS/S", "MIDDLE HALF", "RUNS"]
    rows = table(*columns, right=columns)
    if any(point.share is not None for point in points):
        rows.add_column(f"SHARE OF {_ceiling(ceiling, report.ceilings[ceiling])}", no_wrap=True)
    for point in points:
        low, high = point.rates.middle_half
        spread = f"{_number(low)} - {_number(high)}" if len(point.rates.values) > 1 else ""
        cells: list[str | Text] = [
            str(point.size), _number(point.rates.median), spread,
            str(len(point.rates.values)),
        ]  # fmt: skip
        rows.add_row(*cells, *([_bar(point.share)] if point.share is not None else []))
    stdout().print()
    print_table(rows)


def _bar(share: float) -> Text:
    """A bar of up to 20 columns and the share in percent."""
    if "utf" in (getattr(sys.stdout, "encoding", None) or "").lower():
        eighths = round(8 * _BAR * min(share, 1.0))
        bar = "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()
    else:
        bar = "#" * round(_BAR * min(share, 1.0))
    return Text.assemble((bar.ljust(_BAR), "cyan"), f"{100 * share:5.1f} %")


def _number(value: float) -> str:
    """Three digits, and never an exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _facts(report: Report) -> list[tuple[str, str]]:
    setup, machine = report.setup, report.machine
    backend = [f"{setup['backend']} backend", *([setup["isa"]] if setup["isa"] else [])]
    if setup["threads"] is not None:
        backend.append(plural(setup["threads"], "thread"))
    made = "loaded" if report.subject["bits"] is None else "random weights made"
    lines = [
        ("run by", f"{', '.join(backend)}, K/V {setup['kv_dtype']}; {machine['cpu']}"),
        ("decoded behind", f"{report.context} tokens"),
        ("weights", decimal_size(report.weight_bytes)),
        ("K/V cache", decimal_size(report.kv_cache_bytes)),
        ("peak memory", f"{decimal_size(report.peak_rss_bytes)} resident: {_beyond(report.beyond_bytes)}"),
        ("ready", f"{made} in {report.load_seconds:.2f} s, the first token {report.first_token_seconds:.2f} s later"),
    ]
    if report.ceilings:
        lines.append(("this machine", ", ".join(_ceiling(name, value) for name, value in report.ceilings.items())))
    return lines


def _beyond(num_bytes: int) -> str:
    if num_bytes < 0:
        return "not all of the weights and the K/V cache were touched"
    return f"{decimal_size(num_bytes)} beyond weights and K/V"


def _ceiling(name: Ceiling, value: float) -> str:
    what, unit = CEILINGS[name]
    return f"{what} {value:.3g} {unit}" if value < 1000 else f"{what} {value:.0f} {unit}"
