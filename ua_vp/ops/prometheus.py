"""Figures in Prometheus' text format, from a registry made for each scrape: there is nothing global."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector
from typing_extensions import override

from ua_vp.mission import Status
from ua_vp.wire import MetricsView

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def exposition(figures: Sequence[MetricsView], *, build: str) -> bytes:
    """The text for one scrape; `figures` has one entry per lane."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Figures(figures, build))
    return generate_latest(registry)


GAUGES: tuple[tuple[str, str, Callable[[MetricsView], float]], ...] = (
    ("ua_vp_missions_queued", "Missions waiting.", lambda figure: figure.counts.get(Status.QUEUED.value, 0)),
    ("ua_vp_missions_running", "Missions at work.", lambda figure: figure.counts.get(Status.RUNNING.value, 0)),
    (
        "ua_vp_oldest_queued_seconds",
        "Age of the oldest waiting mission; 0 if none waits.",
        lambda figure: figure.oldest_queued_seconds or 0.0,
    ),
    ("ua_vp_workers_live", "Workers with a fresh lease.", lambda figure: figure.live_workers),
)


class _Figures(Collector):
    def __init__(self, figures: Sequence[MetricsView], build: str) -> None:
        self._figures = [(figure.vp_id or "", figure) for figure in figures]
        self._build = build

    @override
    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily("ua_vp_build", "The code that answers.", value={"build": self._build})
        yield self._finished()
        for name, text, value in GAUGES:
            family = GaugeMetricFamily(name, text, labels=["vp_id"])
            for vp_id, figure in self._figures:
                family.add_metric([vp_id], value(figure))
            yield family
        yield self._durations()
        yield self._events()

    def _finished(self) -> Metric:
        family = CounterMetricFamily("ua_vp_missions_finished", "Missions that ended.", labels=["vp_id", "status"])
        for vp_id, figure in self._figures:
            for status in Status:
                if status.terminal:
                    family.add_metric([vp_id, status.value], figure.counts.get(status.value, 0))
        return family

    def _durations(self) -> Metric:
        name = "ua_vp_mission_duration_seconds"
        family = Metric(name, "How long missions took, first claim to end.", "summary")
        for vp_id, figure in self._figures:
            durations, labels = figure.durations, {"vp_id": vp_id}
            for quantile, value in (("0.5", durations.p50), ("0.95", durations.p95), ("1", durations.max)):
                if value is not None:
                    family.add_sample(name, {**labels, "quantile": quantile}, value)
            family.add_sample(f"{name}_count", labels, durations.count)
            family.add_sample(f"{name}_sum", labels, durations.count * (durations.avg or 0.0))
        return family

    def _events(self) -> Metric:
        family = CounterMetricFamily("ua_vp_events", "Events written.", labels=["vp_id", "type"])
        for vp_id, figure in self._figures:
            for kind, count in sorted(figure.events.items()):
                family.add_metric([vp_id, kind], count)
        return family
