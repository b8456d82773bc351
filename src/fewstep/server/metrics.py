"""What an operator wants to see, for Prometheus."""

from __future__ import annotations

import resource
import sys

import psutil
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from fewstep.server.job import Event, Failed, Generated
from fewstep.server.scheduler import Scheduler

LATENCIES = (0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
ROWS = (1, 2, 4, 8, 12, 16, 24, 32, 64)


class Metrics:
    """Counters of one server, in a registry of their own."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.registry = registry = CollectorRegistry()
        self.pictures = Counter("fewstep_pictures_total", "Pictures generated.", registry=registry)
        self.failed = Counter(
            "fewstep_failed_total", "Requests that ended without a picture.", ["reason"], registry=registry
        )
        self.latency = Histogram(
            "fewstep_latency_seconds", "From the request to its picture.", buckets=LATENCIES, registry=registry
        )
        self.live = Histogram(
            "fewstep_live_latency_seconds",
            "From the receipt of a live change to its coded picture.",
            buckets=LATENCIES,
            registry=registry,
        )
        self.superseded = Counter(
            "fewstep_superseded_total", "Live requests whose place a newer one took.", registry=registry
        )
        self.rows = Histogram(
            "fewstep_batch_rows", "Pictures that shared one call.", ["call"], buckets=ROWS, registry=registry
        )
        self.busy = Counter("fewstep_network_seconds_total", "Time spent in calls.", ["call"], registry=registry)
        waiting = Gauge("fewstep_waiting", "Requests that wait.", registry=registry)
        waiting.set_function(lambda: scheduler.num_waiting)
        sessions = Gauge("fewstep_sessions", "Clients with a place.", registry=registry)
        sessions.set_function(lambda: scheduler.num_lanes)
        self.prompts = Gauge("fewstep_prompt_bytes", "Of the encoded prompts that are kept.", registry=registry)
        resident = Gauge("fewstep_memory_bytes", "The process's resident size.", registry=registry)
        resident.set_function(lambda: psutil.Process().memory_info().rss)
        memory = Gauge("fewstep_peak_memory_bytes", "The process's largest resident size.", registry=registry)
        memory.set_function(_peak_memory)

    def on_batch(self, call: str, rows: int, seconds: float) -> None:
        self.rows.labels(call).observe(rows)
        self.busy.labels(call).inc(seconds)

    def on_event(self, event: Event) -> None:
        if isinstance(event, Generated):
            self.pictures.inc()
            self.latency.observe(event.waited + event.worked)
        elif isinstance(event, Failed):
            self.failed.labels(event.reason).inc()

    def text(self) -> bytes:
        return generate_latest(self.registry)


def _peak_memory() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak if sys.platform == "darwin" else peak * 1024)
