"""What every registered plugin has to be; a new one is tested here by its line in pyproject.toml alone."""

import copy
import socket
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.events import (
    Alert,
    Alerts,
    Beat,
    Beats,
    Change,
    Changes,
    Dump,
    Dumps,
    Finding,
    Lines,
    Observation,
    Order,
    Received,
    Samples,
    Steps,
)
from holdfast.faults import Judgement, Severity, Verb
from holdfast.plugins import installed, make
from holdfast.ports import Closing, Input
from holdfast.topology import JobId, Kind, NodeId, Target, job_of, rank_of
from tests.unit.exporters.receiver import CLOSED, REPAIRED

DETECTORS = sorted(installed("detectors"))
DIAGNOSERS = sorted(installed("diagnosers"))
BACKENDS = sorted(installed("backends"))
COLLECTORS = sorted(installed("collectors"))
EXPORTERS = sorted(installed("exporters"))
RANKS = 8


def healthy(job: str, *, minutes: float, start: float = 1000.0, seed: int = 3) -> Iterator[Observation]:
    """A job on one node that trains: its start, beats, steps, devices, logs; noise as it is."""
    chance = np.random.Generator(np.random.Philox(seed))
    id, node, source = JobId(job), NodeId(f"{job}-n0"), f"agent:{job}-n0"
    where: dict[str, Any] = {"source": source, "job": id, "node": node}
    at = start
    yield Changes(at=at, changes=(Change(target=job_of(job), state="started", at=at),), **where)
    for step in range(int(minutes * 60)):
        at += 1.0
        ranks = np.arange(RANKS)
        work = 0.8 + 0.004 * chance.normal(size=RANKS)
        values = np.stack(
            [np.full(RANKS, 1.0), np.full(RANKS, 2.0 + 0.01 * chance.normal()), work * 0.33, work * 0.67, 1.0 - work],
            axis=1,
        )
        signals = ("step_s", "loss", "phase.forward_s", "phase.backward_s", "phase.all_reduce_s")
        yield Received(at=at, agent=source, boot="b", sequence=step + 1, **where)
        yield Steps(
            at=at,
            ranks=ranks,
            steps=np.full(RANKS, step),
            ended_at=np.full(RANKS, at),
            signals=signals,
            values=values,
            **where,
        )
        yield Beats(at=at, beats=tuple(Beat(rank=r, step=step, stepped_at=at) for r in range(RANKS)), **where)
        yield Samples(
            at=at, targets=tuple(Target(Kind.DEVICE, str(n), node=node) for n in range(RANKS)),
            signals=("gpu.temp_c", "gpu.sm_clock_hz", "gpu.power_w"), **where,
            values=np.array([60.0, 1.98e9, 600.0]) + np.array([1.0, 1e6, 5.0]) * chance.normal(size=(RANKS, 3)),
        )  # fmt: skip
        yield Lines(
            at=at, file="rank0.log", first=step + 1, lines=(f" iteration {step} | lm loss: 2.0E+00 |",), rank=0, **where
        )


def broken(job: str) -> Iterator[Observation]:
    """The same job with all that can go wrong in what detectors look at."""
    yield from healthy(job, minutes=0.5)
    at = 1031.0
    where: dict[str, Any] = {"source": f"agent:{job}-n0", "job": JobId(job), "node": NodeId(f"{job}-n0")}
    exited = Change(target=rank_of(job, 3), state="exited", at=at, signal=9)
    pod = Change(target=Target(Kind.PROCESS, "w0", job=job), state="deleted", at=at)
    ready = Change(target=Target(Kind.NODE, f"{job}-n0", node=f"{job}-n0"), state="not_ready", at=at)
    yield Changes(at=at, changes=(exited, pod, ready), **where)
    yield Lines(
        at=at,
        file="kmsg",
        first=1,
        lines=("3,1,5,-;NVRM: Xid (PCI:0000:1b:00): 79, GPU has fallen off the bus.",),
        **{**where, "source": f"kmsg:{job}-n0"},
    )
    nan = np.full((1, 2), np.nan)
    nan[0, 1] = 1.0
    for n in range(4):
        yield Steps(
            at=at + n,
            ranks=np.array([0]),
            steps=np.array([100 + n]),
            ended_at=np.array([at + n]),
            signals=("loss", "loss_nan"),
            values=nan,
            **where,
        )
    yield Dumps(
        at=at,
        order="i1/collect/1",
        dumps=(Dump(target=rank_of(job, 0), name="fr_rank0", data=b"\x80\x02junk"),),
        **where,
    )
    labels = {"alertname": "GpuXid", "Hostname": f"{job}-n0", "gpu": "3", "severity": "critical"}
    alert = Alert(fingerprint=f"{job}-3", name="GpuXid", status="firing", labels=labels, starts_at=at)
    yield Alerts(at=at, alerts=(alert, alert), **where)
    yield Alerts(at=at + 4, alerts=(msgspec.structs.replace(alert, status="resolved"),), **where)
    yield Changes(at=at + 5, changes=(Change(target=job_of(job), state="failed", at=at + 5, exit_code=1),), **where)


def brief(job: str) -> Iterator[Observation]:
    """One of each kind of a job's observations, and a rank that is killed."""
    yield from healthy(job, minutes=1 / 60)
    exited = Change(target=rank_of(job, 3), state="exited", at=1002.0, signal=9)
    yield Changes(at=1002.0, source=f"agent:{job}-n0", job=JobId(job), node=NodeId(f"{job}-n0"), changes=(exited,))


def run(name: str, seen: Iterable[Observation], *, detector: Any = None, ticks: bool = True) -> list[Finding]:
    """A detector's answers to a stream, ticked every second of it and for a while after."""
    detector = detector or make("detectors", name, {})
    said: list[Finding] = []
    at = 0.0
    for one in seen:
        if type(one) in detector.consumes:
            said.extend(detector.observe(one))
        if ticks and one.at > at:
            at = one.at
            said.extend(detector.tick(at))
    for _ in range(60 if ticks else 0):
        at += 1.0
        said.extend(detector.tick(at))
    return said


def texts(found: Iterable[Finding]) -> list[bytes]:
    return [msgspec.json.encode(finding) for finding in found]


@pytest.mark.parametrize("name", DETECTORS)
def test_a_healthy_job_is_left_alone(name: str) -> None:
    ended = Changes(
        at=1400.0,
        source="agent:j-n0",
        job=JobId("j"),
        changes=(Change(target=job_of("j"), state="finished", at=1400.0),),
    )
    said = run(name, [*healthy("j", minutes=5), ended])
    assert [
        f for f in said if f.severity in (Severity.FATAL, Severity.ERROR) and f.judgement is not Judgement.HEALTHY
    ] == []


@pytest.mark.parametrize("name", DETECTORS)
def test_the_same_input_gives_the_same_claims(name: str) -> None:
    assert texts(run(name, broken("j"))) == texts(run(name, broken("j")))


@pytest.mark.parametrize("name", DETECTORS)
def test_jobs_do_not_influence_each_other(name: str) -> None:
    both = sorted([*broken("j"), *healthy("k", minutes=0.5)], key=lambda seen: seen.at)
    alone = [(f.check, f.target, f.cleared) for f in run(name, broken("j"))]
    assert [(f.check, f.target, f.cleared) for f in run(name, both) if f.job == "j" or "j-n0" in f.target.node] == alone


@pytest.mark.parametrize("name", DETECTORS)
def test_a_claim_is_made_once_until_it_is_withdrawn(name: str) -> None:
    standing: set[tuple[str, str]] = set()
    for finding in run(name, broken("j")):
        claim = (finding.check, str(finding.target))
        if finding.cleared:
            standing.discard(claim)
        else:
            assert claim not in standing
            standing.add(claim)


@pytest.mark.parametrize("name", DETECTORS)
def test_input_is_not_altered(name: str) -> None:
    seen = list(broken("j"))
    before = copy.deepcopy(seen)
    run(name, seen)
    assert all(same(one, other) for one, other in zip(seen, before, strict=True))


@pytest.mark.parametrize("name", DETECTORS)
@settings(max_examples=10, deadline=None)
@given(cut=st.integers(0, 160))
def test_memory_that_is_kept_and_given_back_changes_nothing(name: str, cut: int) -> None:
    seen = list(broken("j"))
    whole = texts(run(name, seen))
    one = make("detectors", name, {})
    if not hasattr(one, "snapshot"):
        return
    first = run(name, seen[:cut], detector=one, ticks=False)
    other = make("detectors", name, {})
    other.restore(one.snapshot())
    rest = run(name, seen[cut:], detector=other, ticks=False)
    assert texts([*first, *rest]) == texts(run(name, seen, ticks=False))
    assert whole == texts(run(name, seen))


@pytest.mark.parametrize("name", DETECTORS)
def test_memory_stays_bounded_however_many_jobs_come(name: str) -> None:
    detector = make("detectors", name, {})
    if not hasattr(detector, "snapshot"):
        return
    sizes = []
    for n in range(3000):
        for seen in brief(f"job{n}"):
            if type(seen) in detector.consumes:
                list(detector.observe(seen))
        if n in (1999, 2999):
            sizes.append(len(detector.snapshot()))
    assert sizes[1] <= sizes[0] * 1.6 + 65_536


@pytest.mark.parametrize("name", DIAGNOSERS)
@settings(max_examples=20, deadline=None)
@given(
    data=st.binary(max_size=2000),
    head=st.sampled_from([b"", b"\x80\x02", b"[    1.0] ", b"{", b"[rank0]: Traceback (most recent call last):\n"]),
)
def test_any_file_ends_in_a_verdict(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: bytes, head: bytes
) -> None:
    path = tmp_path_factory.mktemp("d") / "rank0.log"
    path.write_bytes(head + data)
    diagnoser = make("diagnosers", name, {})
    assert diagnoser.recognise("rank0.log", head + data) in {"", *diagnoser.kinds}
    assert diagnoser.diagnose([Input(name="rank0.log", path=path)], {}).verdict in list(Judgement)


@pytest.mark.parametrize("name", DIAGNOSERS)
def test_a_file_that_cannot_be_read_is_skipped_and_named(tmp_path: Path, name: str) -> None:
    verdict = make("diagnosers", name, {}).diagnose([Input(name="gone", path=tmp_path / "gone")], {})
    assert [skipped.file for skipped in verdict.skipped] == ["gone"]


@pytest.mark.parametrize("name", BACKENDS)
def test_the_same_order_twice_acts_once(name: str) -> None:
    backend = make("backends", name, {})
    order = Order(at=1.0, id="i1/restart/1", incident="i1", job=JobId("j"), verb=Verb.RESTART)
    backend.submit(order)
    backend.submit(order)
    given_out = list(backend.orders_for("j")) if hasattr(backend, "orders_for") else []
    assert [one.id for one in given_out] in ([], ["i1/restart/1"])
    assert len({outcome.order for outcome in backend.poll(1e6)}) <= 1


@pytest.mark.parametrize("name", BACKENDS)
def test_a_verb_it_has_not_is_refused_with_the_reason(name: str) -> None:
    backend = make("backends", name, {})
    backend.submit(Order(at=1.0, id="i1/reboot/1", incident="i1", verb=Verb.REBOOT))
    outcomes = list(backend.poll(2.0))
    assert [(o.order, o.done) for o in outcomes] == [("i1/reboot/1", False)]
    assert outcomes[0].note


@pytest.mark.parametrize("name", COLLECTORS)
def test_a_collector_answers_at_once_even_when_its_source_is_dead(name: str) -> None:
    assert list(make("collectors", name, {}).poll(1.0)) is not None


# The settings without which an exporter cannot be made: PEER stands for a server's address, FILE for a secret's file.
NEEDS: dict[str, dict[str, str]] = {
    "alertmanager": {"url": "PEER"},
    "grafana": {"url": "PEER", "token_file": "FILE"},
    "otlp": {"endpoint": "PEER"},
    "prometheus": {},
    "webhook": {"url": "PEER", "secret_file": "FILE"},
}


@pytest.mark.parametrize("name", EXPORTERS)
@pytest.mark.parametrize("listens", [pytest.param(True, id="silent"), pytest.param(False, id="dead")])
def test_an_exporter_is_not_held_up_by_its_peer_alters_nothing_and_can_be_ended(
    tmp_path: Path, name: str, listens: bool
) -> None:
    assert name in NEEDS, f"add a row for {name!r} to NEEDS: the settings without which it cannot be made"
    (tmp_path / "secret").write_text("s3cret")
    before = set(threading.enumerate())
    with socket.socket() as peer:
        peer.bind(("127.0.0.1", 0))
        if listens:
            peer.listen(1)  # takes connections and never says a word
        words = {"PEER": f"http://127.0.0.1:{peer.getsockname()[1]}/", "FILE": str(tmp_path / "secret")}
        exporter = make("exporters", name, {key: words[value] for key, value in NEEDS[name].items()})
        events: list[Any] = [*broken("j"), *run("processes", broken("j")), *REPAIRED, *CLOSED]
        events.append(Order(at=1.0, id="i7/replace/1", incident="i7", job=JobId("j"), verb=Verb.REPLACE))
        kept = [copy.deepcopy(event) for event in events]
        for _ in range(100):  # were each held up by the peer, this would take hours
            for event in events[-20:]:
                exporter.export(event)
        for event in events:
            assert exporter.export(event) is None
    for event, was in zip(events, kept, strict=True):
        assert same(event, was)
    if isinstance(exporter, Closing):
        exporter.close(20.0)
    assert set(threading.enumerate()) <= before


def same(event: Any, other: Any) -> bool:
    """Whether two events are equal, arrays and their NaN included."""
    pairs = [(getattr(event, field), getattr(other, field)) for field in event.__struct_fields__]
    return all(np.array_equal(a, b, equal_nan=True) if isinstance(a, np.ndarray) else a == b for a, b in pairs)
