"""Pages with every figure of the catalogue, to ask a real Prometheus about: a busy cluster and one just started."""

import itertools
from collections.abc import Iterator, Mapping, Sequence

from holdfast.faults import Fault, Judgement, Perception, Severity, Verb
from holdfast.incident import State
from tests.unit.dashboards.promql import Figure, figures

BEGIN, EVERY_S, SCRAPES = 1_700_000_000, 15, 60
END = BEGIN + EVERY_S * (SCRAPES - 1)

# What stands in a label; ("figure", "label") where it differs from figure to figure.
VALUES: Mapping[str | tuple[str, str], Sequence[str]] = {
    "job": ("llama", "moe"),
    "phase": ("forward", "backward", "data"),
    "part": ("detect", "decide", "schedule", "initialise", "recompute", "checkpoint"),
    "fault": (Fault.GPU_HW, Fault.NIC, Fault.USER_CODE),
    "verdict": tuple(Judgement),
    "perception": tuple(Perception),
    "severity": tuple(Severity),
    "verb": (Verb.COLLECT, Verb.RESTART, Verb.REPLACE),
    "result": ("done", "failed", "refused", "held"),
    "node": ("n1", "n2"),
    "service": ("chat",),
    "model": ("llama-8b",),
    "role": ("prefill", "decode"),
    "instance": ("n1:8000", "n2:8000"),
    "kind": ("prompt", "generation"),
    "source": ("agent:n1", "kmsg:n2"),
    "where": ("agent", "export"),
    "type": ("steps", "samples"),
    ("holdfast_job_state", "state"): (
        "running", "starting", "hanging", "restarting", "finished", "failed", "stopped",
    ),
    ("holdfast_job_phase_seconds", "stat"): ("median", "max"),
    ("holdfast_incidents", "state"): tuple(state for state in State if state is not State.RESOLVED),
    ("holdfast_nodes", "state"): ("ready", "not_ready", "cordoned", "silent"),
    ("holdfast_device_temperature_celsius", "stat"): ("min", "median", "max"),
    ("holdfast_device_power_watts", "stat"): ("min", "median", "max", "sum"),
    ("holdfast_device_utilization_ratio", "stat"): ("min", "median", "max"),
    ("holdfast_nic_ports", "state"): ("up", "down"),
    ("holdfast_serving_engine_state", "state"): ("healthy", "stalled"),
    ("holdfast_sources", "state"): ("heard", "silent"),
}  # fmt: skip


def values_of(figure: str, label: str) -> Sequence[str]:
    """What may stand in a label of a figure; a label that no dashboard uses needs no row above."""
    return VALUES.get((figure, label)) or VALUES.get(label, ("any",))


def page(*, busy: bool) -> str:
    """The page of each scrape, one after another, as OpenMetrics: all has happened, or nothing has yet."""
    lines = (line for figure in figures().values() for line in _family(figure, busy))
    return "\n".join([*lines, "# EOF", ""])


def _family(figure: Figure, busy: bool) -> Iterator[str]:
    yield f"# TYPE {figure.name.removesuffix('_total')} {figure.kind}"
    for number, labels in enumerate(_label_sets(figure)):
        for scrape in range(SCRAPES):
            yield from _samples(figure, labels, busy=busy, number=number, scrape=scrape)


def _label_sets(figure: Figure) -> list[str]:
    rows = itertools.product(*(values_of(figure.name, label) for label in figure.labels))
    return [",".join(f'{label}="{value}"' for label, value in zip(figure.labels, row, strict=True)) for row in rows]


def _samples(figure: Figure, labels: str, *, busy: bool, number: int, scrape: int) -> Iterator[str]:
    at = BEGIN + EVERY_S * scrape
    if figure.kind == "histogram":
        count = 2 * scrape if busy else 0
        for place, bound in enumerate(("1e-3", *figure.buckets)):
            yield _sample(f"{figure.name}_bucket", f'{labels},le="{bound}"', count * place // len(figure.buckets), at)
        yield _sample(f"{figure.name}_bucket", f'{labels},le="+Inf"', count, at)
        yield _sample(f"{figure.name}_sum", labels, 7 * count, at)
        yield _sample(f"{figure.name}_count", labels, count, at)
    elif figure.kind == "counter":
        yield _sample(figure.name, labels, (number + 1) * scrape if busy else 0, at)
    else:
        yield _sample(figure.name, labels, _gauge(figure, labels, busy=busy), at)


def _gauge(figure: Figure, labels: str, *, busy: bool) -> float:
    """In a state that is 1 or 0 only one is 1; a share is below 1; all else is some number, or 0 where nothing is yet."""
    if figure.help.startswith("1 for the state"):
        first = values_of(figure.name, "state")[0]
        return float(f'state="{first}"' in labels)
    if not busy:
        return 0.0
    return 1.0 if figure.help.startswith("1 ") else 0.5 if figure.name.endswith("_ratio") else 3.5


def _sample(name: str, labels: str, value: float, at: int) -> str:
    return f"{name}{{{labels.strip(',')}}} {value} {at}"
