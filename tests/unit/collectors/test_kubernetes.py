"""Watch events: which changes they tell, and a command that writes them, ends and is started again."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.kubernetes import Kubernetes
from collectors.podstates import EventError, States
from holdfast.events import Change, Changes, Observation, Samples

NOW = 1_800_000_000.0
STAMP = "2027-01-15T07:59:50Z"  # ten seconds before


def pod(phase: str = "Running", *, uid: str = "u1", labels: dict[str, str] | None = None, **status: Any) -> dict[str, Any]:
    meta: dict[str, Any] = {"name": "j-worker-0", "namespace": "t", "uid": uid, "labels": labels or {"volcano.sh/job-name": "j"}}
    meta |= {key: status.pop(key) for key in ("deletionTimestamp", "annotations") if key in status}
    return {"kind": "Pod", "metadata": meta, "spec": {"nodeName": "n1"}, "status": {"phase": phase, **status}}


def node(ready: str = "True", *, unschedulable: bool | None = None) -> dict[str, Any]:
    condition = {"type": "Ready", "status": ready, "reason": "R", "message": "m", "lastTransitionTime": STAMP}
    return {
        "kind": "Node", "metadata": {"name": "n1", "uid": "n"}, "spec": {"unschedulable": unschedulable},
        "status": {"conditions": [{"type": "DiskPressure", "status": "False"}, condition]},
    }  # fmt: skip


def ended(code: int, reason: str = "Error", *, restarts: int = 0, last: bool = False) -> list[dict[str, Any]]:
    end = {"terminated": {"exitCode": code, "reason": reason, "finishedAt": STAMP}}
    return [{"name": "worker", "restartCount": restarts, "lastState" if last else "state": end}]


DISRUPTED = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "lastTransitionTime": STAMP}


def event(type: str, object: dict[str, Any]) -> bytes:
    return json.dumps({"type": type, "object": object}).encode()


def changes(*events: tuple[str, dict[str, Any]]) -> list[Change]:
    """What the events tell, a second apart."""
    states = States()
    return [change for n, one in enumerate(events) for _, change in states.changes_of(event(*one), NOW + n)]


@pytest.mark.parametrize(
    ("events", "states"),
    [
        pytest.param([("ADDED", pod("Pending")), ("MODIFIED", pod())], ["pending", "running"], id="a pod that starts"),
        pytest.param([("ADDED", pod()), ("MODIFIED", pod()), ("MODIFIED", pod())], ["running"], id="no change is told twice"),
        pytest.param([("ADDED", pod()), ("MODIFIED", pod("Unknown"))], ["running"], id="an unknown phase says nothing"),
        pytest.param([("ADDED", pod()), ("MODIFIED", pod("Succeeded"))], ["running", "finished"], id="a pod that ends well"),
        pytest.param(
            [("ADDED", pod()), ("MODIFIED", pod("Succeeded")), ("DELETED", pod("Succeeded"))], ["running", "finished"],
            id="tidying up a pod that has ended takes no worker away",
        ),
        pytest.param(
            [("ADDED", pod()), ("MODIFIED", pod(deletionTimestamp=STAMP)), ("DELETED", pod(deletionTimestamp=STAMP))],
            ["running", "deleted"], id="a deletion is told when it is asked for",
        ),
        pytest.param(
            [("ADDED", pod()), ("MODIFIED", pod(conditions=[DISRUPTED])), ("DELETED", pod())], ["running", "evicted"],
            id="who is preempted is evicted, not deleted",
        ),
        pytest.param(
            [("ADDED", pod()), ("MODIFIED", pod("Failed", reason="Evicted"))], ["running", "evicted"], id="eviction by the kubelet"
        ),
        pytest.param([("ADDED", pod("Failed", containerStatuses=ended(1)))], [], id="what ended before the first look is no change"),
        pytest.param([("ADDED", pod("Failed", reason="Evicted"))], [], id="an evicted pod that still lies there is no change"),
        pytest.param([("ADDED", pod(labels={"app": "web"}))], [], id="a pod of no job is no worker"),
        pytest.param([("ADDED", pod()), ("DELETED", pod()), ("ADDED", pod(uid="u2"))], ["running", "deleted", "running"],
                     id="another pod of the same name begins anew"),
        pytest.param(
            [("ADDED", pod()), ("MODIFIED", pod(containerStatuses=ended(1, restarts=1, last=True)))],
            ["running", "failed", "running"], id="a container that fails and runs again in its pod",
        ),
        pytest.param([("BOOKMARK", pod()), ("ERROR", {"kind": "Status", "code": 410})], [], id="bookmarks and errors are no change"),
        pytest.param([("ADDED", {"kind": "Service", "status": {"phase": 7}})], [], id="other kinds are passed over"),
        pytest.param([("ADDED", node())], [], id="a node that is ready when first seen is no change"),
        pytest.param([("ADDED", node("Unknown")), ("MODIFIED", node())], ["not_ready", "ready"], id="a node that comes back"),
        pytest.param([("ADDED", node()), ("MODIFIED", node(unschedulable=True))], ["cordoned"], id="a node is cordoned"),
        pytest.param([("ADDED", node("False", unschedulable=True))], ["not_ready"], id="not ready says more than cordoned"),
        pytest.param([("ADDED", node()), ("DELETED", node())], ["deleted"], id="a node is taken away"),
    ],
)  # fmt: skip
def test_states(events: list[tuple[str, dict[str, Any]]], states: list[str]) -> None:
    assert [change.state for change in changes(*events)] == states


@pytest.mark.parametrize(
    ("code", "reason", "signal"),
    [
        pytest.param(1, "Error", None, id="an exit status"),
        pytest.param(137, "OOMKilled", 9, id="killed for memory"),
        pytest.param(143, "Error", 15, id="told to end"),
        pytest.param(255, "Error", None, id="a status that is no signal"),
    ],
)
def test_how_a_container_ended(code: int, reason: str, signal: int | None) -> None:
    *_, failed = changes(("ADDED", pod()), ("MODIFIED", pod("Failed", containerStatuses=ended(code, reason))))
    assert (failed.state, failed.exit_code, failed.signal, failed.reason, failed.at) == ("failed", code, signal, reason, NOW - 10.0)


def test_a_deletion_that_was_ordered_names_its_order() -> None:
    *_, removed = changes(("ADDED", pod()), ("DELETED", pod(annotations={"holdfast.io/order": "i1/replace/2"})))
    assert (removed.state, removed.detail["order"]) == ("deleted", "i1/replace/2")


@pytest.mark.parametrize(
    "label",
    ["volcano.sh/job-name", "training.kubeflow.org/job-name", "jobset.sigs.k8s.io/jobset-name", "batch.kubernetes.io/job-name", "job-name"],
)
def test_the_job_is_read_from_the_label_of(label: str) -> None:
    (told,) = States().changes_of(event("ADDED", pod(labels={label: "big"})), NOW)
    assert (told[0], told[1].target.job, told[1].target.node) == ("big", "big", "n1")


def test_a_node_tells_of_the_job_whose_pod_is_on_it() -> None:
    states = States()
    list(states.changes_of(event("ADDED", pod()), NOW))
    assert [job for job, _ in states.changes_of(event("ADDED", node("False")), NOW)] == ["j"]


def test_what_was_deleted_while_the_watch_was_away_is_told_once_it_has_listed_again() -> None:
    states = States()
    for uid in ("u1", "u2"):
        list(states.changes_of(event("ADDED", pod(uid=uid)), NOW, watch="w"))
    states.away("w")
    assert list(states.missed("w", NOW + 100)) == []  # nothing is listed yet
    assert list(states.changes_of(event("ADDED", pod(uid="u1")), NOW + 100, watch="w")) == []
    assert list(states.missed("w", NOW + 101)) == []
    assert [change.state for _, change in states.missed("w", NOW + 131)] == ["deleted"]
    assert list(states.missed("w", NOW + 132)) == []


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"{}", id="no event"),
        pytest.param(b'{"type":"ADDED","object":[]}', id="no object"),
        pytest.param(b'{"type":"ADDED","object":{"kind":"Pod","status":{"phase":7}}}', id="a field of the wrong type"),
        pytest.param(b"\xff", id="no JSON"),
    ],
)
def test_what_is_no_event_is_refused(data: bytes) -> None:
    with pytest.raises(EventError):
        list(States().changes_of(data, NOW))


def damaged(whole: bytes) -> st.SearchStrategy[bytes]:
    """The same with some bytes in the place of one."""
    return st.builds(lambda at, put: whole[:at] + put + whole[at + 1 :], st.integers(0, len(whole)), st.binary(max_size=3))


@given(st.binary(max_size=200) | damaged(event("ADDED", pod())) | damaged(event("DELETED", node())))
def test_any_bytes_are_changes_or_refused(data: bytes) -> None:
    try:
        found = list(States().changes_of(data, NOW))
    except EventError:
        return
    assert all(change.at <= NOW for _, change in found)


def of_kind(seen: list[Observation], signal: str) -> list[float]:
    return [float(one.values[0, 0]) for one in seen if isinstance(one, Samples) and one.signals == (signal,)]


def test_events_handed_over_in_pieces_are_read_and_junk_is_counted() -> None:
    pieces = iter([[event("ADDED", pod("Pending"))[:50]], [event("ADDED", pod("Pending"))[50:], b'{"type":1}']])
    collector = Kubernetes(read=lambda now: next(pieces))
    assert list(collector.poll(NOW)) == []
    seen = list(collector.poll(NOW + 1))
    assert [(one.job, one.node, one.changes[0].state) for one in seen if isinstance(one, Changes)] == [("j", "n1", "pending")]
    assert of_kind(seen, "source.lost_total") == [1.0]


@pytest.fixture
def watching() -> Iterator[Callable[..., Kubernetes]]:
    """Makes collectors over real commands and closes them at the end."""
    made: list[Kubernetes] = []

    def make(*command: str) -> Kubernetes:
        made.append(Kubernetes(commands=[list(command)], backoff_s=0.05))
        return made[-1]

    yield make
    for collector in made:
        collector.close()


def until(collector: Kubernetes, enough: Callable[[list[Observation]], bool]) -> list[Observation]:
    """Poll until enough was seen, or long past what it could take."""
    seen: list[Observation] = []
    for n in range(1000):
        seen += collector.poll(NOW + n)
        if enough(seen):
            return seen
        time.sleep(0.02)
    raise AssertionError(f"not seen in 20 s: {seen}")


def test_a_command_is_read_started_again_when_it_ends_and_ended_by_close(watching: Callable[..., Kubernetes], tmp_path: Path) -> None:
    """The script writes pretty JSON as kubectl does, ends, and the second time stays."""
    script = tmp_path / "watch.py"
    script.write_text(
        "import json, os, pathlib, sys, time\n"
        "mark = pathlib.Path(sys.argv[1])\n"
        "again = mark.exists()\n"
        "mark.write_text(str(os.getpid()))\n"
        "phase = 'Failed' if again else 'Running'\n"
        "pod = json.loads(sys.argv[2])\n"
        "pod['status']['phase'] = phase\n"
        "print(json.dumps({'type': 'ADDED', 'object': pod}, indent=4), flush=True)\n"
        "time.sleep(60 if again else 0)\n"
    )
    mark = tmp_path / "mark"
    collector = watching(sys.executable, str(script), str(mark), json.dumps(pod()))
    seen = until(collector, lambda seen: sum(isinstance(one, Changes) for one in seen) == 2)
    assert [one.changes[0].state for one in seen if isinstance(one, Changes)] == ["running", "failed"]
    assert of_kind(seen, "source.up") == [1.0, 0.0, 1.0]
    collector.close()
    assert not Path(f"/proc/{mark.read_text()}").exists()


def test_a_command_that_is_missing_is_a_source_that_is_down(watching: Callable[..., Kubernetes]) -> None:
    seen = until(watching("/nonexistent/kubectl"), lambda seen: len(seen) >= 2)
    assert set(of_kind(seen, "source.up")) == {0.0}


def test_a_command_without_a_name_is_refused() -> None:
    with pytest.raises(ValueError, match="commands"):
        Kubernetes(commands=[[]])
