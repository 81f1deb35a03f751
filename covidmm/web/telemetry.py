"""Counters for Prometheus, one log line per request, and headers that keep a browser safe."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from fastapi import FastAPI
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from covidmm.web.problems import CLIENT_LEFT, ProblemError, log_fault
from covidmm.web.queue import JobQueue

LOG = logging.getLogger("covidmm.web")
_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)

#: Nothing from other hosts, no frames, no guessing of types; what an upload gave is kept by no cache.
_HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; "
        b"frame-ancestors 'none'; form-action 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_NO_STORE = (b"cache-control", b"no-store")
_NO_CACHE = (b"cache-control", b"no-cache")


class Metrics:
    """The server's metrics, in a registry of its own.

    Args:
        queues: by name; their lengths are read when Prometheus asks.
    """

    def __init__(self, queues: dict[str, JobQueue]) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("covidmm_requests", "Answers.", ("route", "status"), registry=self.registry)
        self.stages = Histogram(
            "covidmm_stage_seconds", "Seconds of work.", ("stage",), buckets=_BUCKETS, registry=self.registry
        )
        self.images = Counter("covidmm_images", "Images that were predicted.", registry=self.registry)
        self._queues = queues
        self.registry.register(self)
        ProcessCollector(registry=self.registry)

    def collect(self) -> list[GaugeMetricFamily]:
        """The lengths of the queues, for prometheus_client."""
        pending = GaugeMetricFamily("covidmm_queue_pending", "Jobs that wait or run.", labels=("queue",))
        sizes = GaugeMetricFamily("covidmm_queue_size", "Jobs that may wait or run.", labels=("queue",))
        for name, queue in self._queues.items():
            pending.add_metric((name,), queue.pending)
            sizes.add_metric((name,), queue.size)
        return [pending, sizes]

    def timed(self, stage: str, job: Callable) -> Callable:
        """The job, with its duration recorded."""

        def run(*arguments: object) -> object:
            with self.stages.labels(stage).time():
                return job(*arguments)

        return run


class Monitor:
    """ASGI middleware: counts and logs every request, and adds the headers that keep a browser safe.

    The log has method, route, status and seconds; never the requested address, into which a client may write
    anything. An unexpected exception is logged without its message and answered with a plain 500.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status = time.monotonic(), CLIENT_LEFT

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                cache = _NO_STORE if scope["path"].startswith("/api") else _NO_CACHE
                message = {**message, "headers": [*message["headers"], *_HEADERS, cache]}
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception as error:
            log_fault(error)
            if status == CLIENT_LEFT:  # nothing was answered yet
                problem = ProblemError(500, "The server made a mistake; its log says where.")
                await problem.response()(scope, receive, watched)
        finally:
            route = getattr(scope.get("route"), "path", None) or "unknown"
            self.metrics.requests.labels(route, str(status)).inc()
            LOG.info("%s %s %d %.3f s", _method(scope), route, status, time.monotonic() - start)


def _method(scope: Scope) -> str:
    return scope["method"] if scope["method"] in {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"} else "other"


def install(app: FastAPI, metrics: Metrics) -> None:
    """Add the middleware to an application."""
    app.add_middleware(Monitor, metrics=metrics)
