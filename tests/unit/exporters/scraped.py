"""Reading the page that the exporter serves as Prometheus does, and events to fill it with."""

from typing import Any

import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from exporters.prometheus import Prometheus
from holdfast.events import Beat, Beats, Change, Changes, Event, Finding, Samples, Steps, Transition
from holdfast.faults import Fault, Judgement, Perception, Symptom, Verb
from holdfast.incident import Incident, State, Trigger
from holdfast.topology import JobId, Kind, NodeId, Target, job_of
from holdfast.verdict import Verdict

Values = dict[str, float]

FACTS: dict[str, Any] = {
    "devices": 8, "peak_flops_per_device": 1e15, "flops_per_token": 1e10, "tokens_per_step": 400_000.0,
    "tokens_per_s_reference": 60_000.0, "devices_reference": 4,
}  # fmt: skip


def values_of(page: bytes) -> Values:
    """Every sample by its name, or `name{label="value",...}` with the labels in order of their names."""
    found: Values = {}
    for family in text_string_to_metric_families(page.decode()):
        for sample in family.samples:
            labels = ",".join(f'{name}="{sample.labels[name]}"' for name in sorted(sample.labels))
            key = f"{sample.name}{{{labels}}}" if labels else sample.name
            assert key not in found, "a series twice on one page"
            found[key] = sample.value
    return found


def kept_by(exporter: Prometheus) -> Values:
    """The same without writing and reading the text."""
    samples = (sample for family in exporter.collect() for sample in family.samples)
    return {f"{sample.name} {sample.labels}": sample.value for sample in samples}


def shown(*events: Event, **settings: Any) -> Values:
    """The page after these events, of a simulated cluster."""
    exporter = Prometheus(simulated=True, **settings)
    for event in events:
        exporter.export(event)
    return values_of(exporter.page())


def state(page: Values, job: str = "j") -> str:
    """The one state that a job is in."""
    marked = [key for key, value in page.items() if key.startswith(f'holdfast_job_state{{job="{job}"') and value]
    assert len(marked) == 1
    return marked[0].split('state="')[1].rstrip('"}')


def parts(page: Values, job: str = "j") -> dict[str, float]:
    """The seconds lost that are not 0, by part."""
    start = f'holdfast_job_lost_seconds_total{{job="{job}",part="'
    return {key.removeprefix(start).rstrip('"}'): value for key, value in page.items() if key.startswith(start) and value}


# --- events


def change(at: float, state: str, *, job: str = "j", attempt: int = 0, **detail: Any) -> Changes:
    """A job is in another state."""
    moved = Change(target=job_of(job), state=state, at=at, attempt=attempt, detail=detail)
    return Changes(at=at, source="scheduler", job=JobId(job), changes=(moved,))


def node_change(at: float, node: str, state: str) -> Changes:
    """A node is in another state."""
    moved = Change(target=Target(Kind.NODE, node, node=node), state=state, at=at)
    return Changes(at=at, source="scheduler", changes=(moved,))


def steps(at: float, step: int, *, job: str = "j", ranks: int = 8, source: str = "agent:n1", **signals: float) -> Steps:
    """One step of all ranks, every rank the same values."""
    values = np.tile(np.array(list(signals.values())), (ranks, 1))
    return Steps(
        at=at, source=source, job=JobId(job), ranks=np.arange(ranks), steps=np.full(ranks, step), ended_at=np.full(ranks, at),
        signals=tuple(signals), values=values,
    )  # fmt: skip


def training(start: float, count: int, *, first: int = 0, every_s: float = 4.0, job: str = "j") -> list[Steps]:
    """Healthy steps one after another, the first of which ends after `every_s`."""
    return [steps(start + every_s * (n + 1), first + n, job=job, step_s=every_s, loss=2.0) for n in range(count)]


def beats(at: float, step: int, stepped_at: float, *, attempt: int = 0, phase: str = "", phase_at: float = 0.0) -> Beats:
    """An agent's sign of life of eight ranks."""
    ranks = tuple(Beat(rank=n, step=step, stepped_at=stepped_at, phase=phase, phase_at=phase_at) for n in range(8))
    return Beats(at=at, source="agent:n1", job=JobId("j"), node=NodeId("n1"), attempt=attempt, beats=ranks)


def finding(at: float, target: Target, *, fault: Fault = Fault.GPU_HW, **known: Any) -> Finding:
    """A claim."""
    return Finding(at=at, id="f1", target=target, perception=Perception.NODE_FAULT, fault=fault, check="xid.79", confidence=1.0, **known)


def moved(
    at: float, state: State, trigger: Trigger, *, claimed_at: float, symptom: Symptom = Symptom.HANG, fault: Fault = Fault.GPU_HW,
    id: str = "i1", detail: dict[str, Any] | None = None, **known: Any,
) -> Transition:  # fmt: skip
    """An incident of the job `j` has moved."""
    verdict = Verdict(verdict=Judgement.CULPRIT, symptom=symptom, fault=fault, detail=detail or {})
    incident = Incident(
        id=id, at=claimed_at, job="j", state=state, perception=Perception.HANG, check="tracehang.silence", verdict=verdict, **known
    )
    return Transition(at=at, id=f"{id}/{trigger}", incident=incident, before=State.OPEN, trigger=trigger)


def repair(claimed_at: float, decided_at: float, *, symptom: Symptom = Symptom.HANG) -> list[Transition]:
    """A claim, and the order to replace a machine."""
    return [
        moved(claimed_at, State.OPEN, Trigger.CLAIMED, claimed_at=claimed_at, symptom=symptom),
        moved(
            decided_at, State.RECOVERING, Trigger.DECIDED, claimed_at=claimed_at, symptom=symptom, diagnosed_at=decided_at,
            decided_at=decided_at, verb=Verb.REPLACE,
        ),
    ]  # fmt: skip


def reading(at: float, *, service: str = "chat", instance: str = "n1:8000", **signals: float) -> Samples:
    """An engine's page. signals: without their first word, `serving`."""
    names = tuple(f"serving.{name}" for name in signals)
    return Samples(
        at=at, source=f"engine:{instance}", job=JobId(service), node=NodeId("n1"),
        targets=(Target(Kind.INSTANCE, instance, node="n1"),), signals=names, values=np.array([list(signals.values())]),
    )  # fmt: skip
