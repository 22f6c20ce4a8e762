"""What the exporter `prometheus` costs: a batch of steps of 16,384 ranks, an agent's beat, and the page.

python -m bench.metrics
"""

import os
import time
from collections.abc import Callable

import numpy as np

from exporters.prometheus import Prometheus
from holdfast.events import Beat, Beats, Change, Changes, Event, Samples, Steps
from holdfast.topology import JobId, Kind, NodeId, Target, job_of

RANKS, DEVICES = 16_384, 8
SIGNALS = (
    "step_s", "loss", "loss_nan", "grad_norm", "tokens", "phase.forward_s", "phase.backward_s", "phase.all_reduce_s", "phase.data_s",
    "phase.checkpoint_s",
)  # fmt: skip


def steps(step: int, *, job: str = "j", first: int = 0, ranks: int = RANKS, source: str = "agents") -> Steps:
    """One step of many ranks."""
    values = np.random.Generator(np.random.Philox(step)).uniform(0.1, 2.0, (ranks, len(SIGNALS)))
    return Steps(
        at=4.0 * step, source=source, job=JobId(job), ranks=np.arange(first, first + ranks), steps=np.full(ranks, step),
        ended_at=np.full(ranks, 4.0 * step), signals=SIGNALS, values=values,
    )  # fmt: skip


def beats(n: int) -> Beats:
    """One agent of a node's ranks."""
    ranks = tuple(Beat(rank=rank, step=n, stepped_at=4.0 * n) for rank in range(DEVICES))
    return Beats(at=4.0 * n, source="agent:n1", job=JobId("j"), node=NodeId("n1"), beats=ranks)


def devices(node: str, at: float) -> Samples:
    """One node's exporter page."""
    targets = tuple(Target(Kind.DEVICE, str(n), node=node) for n in range(DEVICES))
    signals = ("gpu.temp_c", "gpu.power_w", "gpu.util_ratio", "gpu.sm_clock_hz")
    return Samples(
        at=at, source=f"dcgm:{node}", node=NodeId(node), targets=targets, signals=signals, values=np.full((DEVICES, len(signals)), 60.0)
    )


def started(job: str, devices: int) -> Changes:
    """A job that says all of itself."""
    detail = {"devices": devices, "peak_flops_per_device": 1e15, "flops_per_token": 1e10, "tokens_per_step": 4e6}
    change = Change(target=job_of(job), state="started", at=0.0, detail=detail)
    return Changes(at=0.0, source="scheduler", job=JobId(job), changes=(change,))


def cost(act: Callable[[], object], times: int) -> float:
    """Milliseconds of one call: the median."""
    took = []
    for _ in range(times):
        begun = time.perf_counter()
        act()
        took.append(time.perf_counter() - begun)
    return float(np.median(took)) * 1e3


def export_cost(exporter: Prometheus, events: list[Event]) -> float:
    """Milliseconds to export one of these events: the median."""
    left = iter(events)
    return cost(lambda: exporter.export(next(left)), len(events))


def great_job() -> Prometheus:
    """One job of RANKS ranks that reports in one batch, and the pages of its nodes."""
    exporter = Prometheus(simulated=True)
    exporter.export(started("j", RANKS))
    print(f"export, a step of {RANKS:,} ranks in one batch: {export_cost(exporter, [steps(n) for n in range(1, 41)]):.2f} ms")
    print(f"export, the beats of {DEVICES} ranks: {export_cost(exporter, [beats(n) for n in range(41, 2041)]):.4f} ms")
    pages: list[Event] = [devices(f"n{n}", 164.0) for n in range(RANKS // DEVICES)]
    print(f"export, a page of {DEVICES} devices: {export_cost(exporter, pages):.4f} ms")
    return exporter


def many_agents() -> Prometheus:
    """The same job, each node's agent reporting for itself."""
    exporter = Prometheus(simulated=True)
    exporter.export(started("j", RANKS))
    for step in range(1, 6):
        told: list[Event] = [
            steps(step, first=DEVICES * n, ranks=DEVICES, source=f"agent:n{n}") for n in range(RANKS // DEVICES)
        ]
        took = export_cost(exporter, told)
    print(f"export, a step of {DEVICES} ranks, one of {RANKS // DEVICES:,} agents: {took:.4f} ms")
    return exporter


def many_jobs() -> Prometheus:
    """A thousand jobs of eight ranks."""
    exporter = Prometheus(simulated=True)
    for n in range(1000):
        exporter.export(started(f"j{n}", DEVICES))
        exporter.export(steps(1, job=f"j{n}", ranks=DEVICES, source=f"agent:n{n}"))
    return exporter


def main() -> None:
    """Print them all: medians."""
    print(f"one core of {os.cpu_count()}: medians")
    for what, made in (
        ("one job in one batch", great_job()),
        ("one job of many agents", many_agents()),
        ("a thousand jobs", many_jobs()),
    ):
        page = made.page()
        series = sum(not line.startswith(b"#") for line in page.splitlines())
        print(f"page, {what}: {cost(made.page, 7):.1f} ms, {series:,} series, {len(page):,} bytes")


if __name__ == "__main__":
    main()
