"""Counters for Prometheus. Labels take values from fixed lists only: a client cannot make new series."""

from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from smcgen.serve.pool import Job, Pool, Stopped

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Metrics:
    """The counters of one server, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = self._counter("requests", "HTTP responses", "path", "code")
        self.seconds = self._histogram(
            "request_seconds", "Seconds to the end of a response", "path"
        )
        self.runs = self._counter("runs", "Ended runs", "strategy", "outcome")
        self.run_seconds = self._histogram("run_seconds", "Seconds of a run", "strategy")
        self.queue_seconds = self._histogram("queue_seconds", "Seconds that a run waited")
        self.tokens = self._counter("tokens", "Tokens, by what was done with them", "kind")

    def watch(self, pool: Pool, engine_lives: Callable[[], bool]) -> None:
        """Show how full a pool is, and whether its engine lives."""
        up = Gauge("smcgen_engine_up", "1 while the engine lives", registry=self._registry)
        up.set_function(lambda: float(engine_lives()))
        shown: dict[str, Callable[[], float]] = {
            "running": lambda: pool.running,
            "waiting": lambda: pool.waiting,
        }
        for name, of in shown.items():
            gauge = Gauge(f"smcgen_{name}", f"Runs that are {name}", registry=self._registry)
            gauge.set_function(of)

    def ended(self, job: Job, error: BaseException | None) -> None:
        """Count a run, however it ended."""
        outcome = "ok"
        if error is not None:
            outcome = error.reason if isinstance(error, Stopped) else "failed"
        self.runs.labels(job.label, outcome).inc()
        self.queue_seconds.observe(job.queued)
        if job.ran:
            self.run_seconds.labels(job.label).observe(job.ran)

    def spent(self, cost: Any) -> None:
        """Count the tokens of a run's `Cost`."""
        self.tokens.labels("generated").inc(cost.tokens_generated)
        self.tokens.labels("prefilled").inc(cost.tokens_prefilled)
        self.tokens.labels("reward").inc(cost.reward_tokens)

    def text(self) -> bytes:
        """As Prometheus reads them."""
        return generate_latest(self._registry)

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(f"smcgen_{name}_total", about, labels, registry=self._registry)

    def _histogram(self, name: str, about: str, *labels: str) -> Histogram:
        return Histogram(f"smcgen_{name}", about, labels, registry=self._registry, buckets=_SECONDS)
