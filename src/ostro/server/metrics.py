"""What the models of a server do, in numbers for Prometheus: counters and times of requests, and how things stand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from ostro.engine.outputs import RequestOutput
from ostro.errors import OstroError

if TYPE_CHECKING:
    from ostro.server.service import ModelService

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250)


class Metrics:
    """Counters and histograms by model. The methods may be called from any thread.

    | name | what |
    |---|---|
    | `ostro_answers_total{finish_reason}` | answers that ended (stop, length, abort) |
    | `ostro_requests_failed_total{error}` | requests that ended with an error, by its class |
    | `ostro_requests_refused_total{error}` | requests that were not let in, by the class of the error |
    | `ostro_prompt_tokens_total`, `ostro_cached_prompt_tokens_total` | tokens of prompts; those not computed again |
    | `ostro_generated_tokens_total` | tokens of answers |
    | `ostro_draft_tokens_total`, `ostro_accepted_tokens_total` | speculation: tokens guessed, and those that held |
    | `ostro_queue_seconds` | from arrival to the first step (histogram) |
    | `ostro_time_to_first_token_seconds` | from arrival to the first token (histogram) |
    | `ostro_time_per_output_token_seconds` | from the first token to the end, by the tokens between (histogram) |
    | `ostro_request_seconds` | from arrival to the end (histogram) |

    `watch` adds how things stand when they are asked for.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._answers = self._counter("answers", "Answers that ended", "finish_reason")
        self._failed = self._counter("requests_failed", "Requests that ended with an error", "error")
        self._refused = self._counter("requests_refused", "Requests that were not let in", "error")
        self._prompt = self._counter("prompt_tokens", "Tokens of prompts")
        self._cached = self._counter("cached_prompt_tokens", "Tokens of prompts that were not computed again")
        self._generated = self._counter("generated_tokens", "Tokens of answers")
        self._drafted = self._counter("draft_tokens", "Tokens that speculation guessed")
        self._accepted = self._counter("accepted_tokens", "Tokens that speculation guessed right")
        self._queue = self._histogram("queue_seconds", "From arrival to the first step")
        self._first = self._histogram("time_to_first_token_seconds", "From arrival to the first token")
        self._each = self._histogram("time_per_output_token_seconds", "Between tokens of an answer")
        self._whole = self._histogram("request_seconds", "From arrival to the end")

    def note_end(self, model: str, news: RequestOutput | OstroError) -> None:
        """A request ended: with its last output, or with an error."""
        if isinstance(news, OstroError):
            self._failed.labels(model, type(news).__name__).inc()
            return
        num_tokens = sum(len(answer.token_ids) for answer in news.outputs)
        for answer in news.outputs:
            self._answers.labels(model, answer.finish_reason).inc()
        self._prompt.labels(model).inc(len(news.prompt_token_ids))
        self._cached.labels(model).inc(news.num_cached_tokens)
        self._generated.labels(model).inc(num_tokens)
        self._drafted.labels(model).inc(news.num_draft_tokens)
        self._accepted.labels(model).inc(news.num_accepted_tokens)
        self._note_times(model, news)

    def note_refusal(self, model: str, error: OstroError) -> None:
        """A request was not let in."""
        self._refused.labels(model, type(error).__name__).inc()

    def watch(self, services: Callable[[], Sequence[ModelService]]) -> None:
        """Tell of these services, too, how they stand whenever the metrics are asked for."""
        self.registry.register(_State(services))

    def text(self) -> bytes:
        """Everything in Prometheus's text format (`CONTENT_TYPE`)."""
        return generate_latest(self.registry)

    def _note_times(self, model: str, output: RequestOutput) -> None:
        times = output.metrics
        end = times.finished_time
        for histogram, since, until in (
            (self._queue, times.arrival_time, times.first_scheduled_time),
            (self._first, times.arrival_time, times.first_token_time),
            (self._whole, times.arrival_time, end),
        ):
            if until is not None:
                histogram.labels(model).observe(until - since)
        longest = max(len(answer.token_ids) for answer in output.outputs)
        if times.first_token_time is not None and end is not None and longest > 1:
            self._each.labels(model).observe((end - times.first_token_time) / (longest - 1))

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"ostro_{name}", text, ("model", *labels), registry=self.registry)

    def _histogram(self, name: str, text: str) -> Histogram:
        return Histogram(f"ostro_{name}", text, ("model",), registry=self.registry, buckets=_SECONDS)


class _State(Collector):
    """Gauges of the services as they stand. Whole numbers are read without a lock: nobody waits for a step."""

    def __init__(self, services: Callable[[], Sequence[ModelService]]) -> None:
        self._services = services

    def collect(self) -> Iterator[Metric]:
        """One metric after the other, with a sample of each service."""
        services = list(self._services())
        engines = [(service.name, service.llm.shared.engine) for service in services]
        yield _gauge("sequences_running", "Answers being computed", ((n, len(e.scheduler.running)) for n, e in engines))
        yield _gauge("sequences_waiting", "Answers in the queue", ((n, len(e.scheduler.waiting)) for n, e in engines))
        yield _gauge(
            "model_bytes",
            "Bytes of weights and K/V cache",
            ((service.name, service.llm.weight_bytes + service.llm.kv_cache_bytes) for service in services),
        )
        blocks = GaugeMetricFamily("ostro_kv_blocks", "Blocks of the K/V cache", labels=["model", "state"])
        for name, engine in engines:
            pool = engine.cache.pool
            for state, count in (("free", pool.num_free), ("cached", pool.num_cached), ("used", pool.num_used)):
                blocks.add_metric([name, state], count)
        yield blocks
        preemptions = CounterMetricFamily("ostro_preemptions", "Answers that gave their blocks back", labels=["model"])
        for name, engine in engines:
            preemptions.add_metric([name], engine.scheduler.num_preemptions)
        yield preemptions


def _gauge(name: str, text: str, samples: Iterable[tuple[str, int]]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"ostro_{name}", text, labels=["model"])
    for model, value in samples:
        family.add_metric([model], value)
    return family
