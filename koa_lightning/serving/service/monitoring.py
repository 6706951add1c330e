"""Metrics for Prometheus at /metrics: counts and times, and nothing from an image."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

from koa_lightning.serving.service.answers import Knee

disable_created_metrics()  # they add a second series to each metric, which nobody reads
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The numbers of one service."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter("koa_requests", "Requests answered", ("path", "status"), registry=registry)
        self.seconds = Histogram(
            "koa_request_seconds", "Time to answer a request", ("path",), buckets=_SECONDS, registry=registry
        )
        self.batches = Histogram("koa_batch_size", "Images in a batch", buckets=_SIZES, registry=registry)
        self.grades = Counter("koa_grades", "Images graded", ("grade",), registry=registry)
        self.flagged = Counter("koa_flagged", "Images graded that look out of distribution", registry=registry)
        self.referred = Counter("koa_referred", "Images graded that should go to a reader", registry=registry)
        self.errors = Counter("koa_errors", "Files or requests without a grade", ("code",), registry=registry)
        self.in_line = Gauge("koa_images_waiting", "Images that wait for a worker", registry=registry)
        self.ready = Gauge("koa_workers_ready", "Workers that are set up", registry=registry)
        for grade in range(5):
            self.grades.labels(grade)  # a series that exists from the start can be summed

    def watch(self, n_waiting: Callable[[], float], n_ready: Callable[[], float]) -> None:
        """Read two numbers whenever /metrics is read."""
        self.in_line.set_function(n_waiting)
        self.ready.set_function(n_ready)

    def count(self, knees: Iterable[Knee]) -> None:
        """Count the files of a response."""
        for knee in knees:
            if knee.error is not None:
                self.errors.labels(knee.error.code).inc()
                continue
            self.grades.labels(knee.grade).inc()
            self.flagged.inc(bool(knee.out_of_distribution and knee.out_of_distribution.flagged))
            self.referred.inc(bool(knee.refer))

    def text(self) -> bytes:
        """Return all numbers in Prometheus's text format."""
        return generate_latest(self.registry)
