"""The scheduler of the simulated cluster: pods and nodes, told as watch events in the API server's words."""

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from simulator.nodes import DEVICES, Node

_GRACE_S = 30


@dataclass
class Pod:
    """One worker. number: how often a pod of this name was made before; deleted_at: when its deletion was asked for, 0.0 not yet."""

    name: str
    job: str
    node: Node
    labels: dict[str, str]
    uid: str
    made_at: float
    phase: str = "Pending"
    since: float = 0.0
    deleted_at: float = 0.0
    annotations: dict[str, str] = field(default_factory=dict)


class Scheduler:
    """Writes an event for each change; `now` is given with everything that happens."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._pods: dict[str, Pod] = {}
        self._turns: dict[str, int] = {}
        self._version = 1000
        self._written: list[bytes] = []

    def fetch(self) -> list[bytes]:
        """What was written since the last time."""
        written, self._written = self._written, []
        return written

    # --- nodes

    def add_node(self, node: Node, now: float) -> None:
        self._write("ADDED", self._node(node, now))

    def cordon(self, node: Node, now: float) -> None:
        """No further pod comes to a node."""
        node.cordoned = True
        self._write("MODIFIED", self._node(node, now))

    def lose(self, node: Node, now: float) -> None:
        """A node's kubelet has not been heard for too long."""
        node.ready = False
        self._write("MODIFIED", self._node(node, now))

    def take_back(self, node: Node, now: float) -> None:
        """A node serves again."""
        node.ready, node.cordoned = True, False
        self._write("MODIFIED", self._node(node, now))

    # --- pods

    def create(self, name: str, job: str, node: Node, now: float, *, labels: dict[str, str]) -> None:
        """A new pod, bound to its node at once."""
        self._turns[name] = self._turns.get(name, 0) + 1
        pod = Pod(name, job, node, labels, self._uid(f"{name}/{self._turns[name]}"), now, since=now)
        self._pods[name] = pod
        self._write("ADDED", self._pod(pod, now))

    def run(self, job: str, now: float) -> None:
        """The containers of a job's new pods run."""
        for pod in self._pods.values():
            if pod.job == job and pod.phase == "Pending":
                pod.phase, pod.since = "Running", now
                self._write("MODIFIED", self._pod(pod, now))

    def terminate(self, name: str, now: float, *, order: str = "") -> None:
        """Somebody deletes a pod: its containers are given their time. order: why, where it was ordered."""
        pod = self._pods.get(name)
        if pod is not None and not pod.deleted_at:
            pod.deleted_at = now
            if order:
                pod.annotations["holdfast.io/order"] = order
            self._write("MODIFIED", self._pod(pod, now))

    def remove(self, name: str, now: float, *, order: str = "") -> None:
        """A pod has gone."""
        self.terminate(name, now, order=order)
        pod = self._pods.pop(name, None)
        if pod is not None:
            self._write("DELETED", self._pod(pod, now))

    # --- as the API writes them

    def _write(self, type: str, object: dict[str, Any]) -> None:
        self._version += 1
        object["metadata"]["resourceVersion"] = str(self._version)
        self._written.append(msgspec.json.encode({"type": type, "object": object}) + b"\n")

    def _uid(self, name: str) -> str:
        word = hashlib.blake2b(f"{self._seed}/{name}".encode(), digest_size=16).hexdigest()
        return f"{word[:8]}-{word[8:12]}-{word[12:16]}-{word[16:20]}-{word[20:]}"

    def _node(self, node: Node, now: float) -> dict[str, Any]:
        ready = _condition("Ready", "True", "KubeletReady", "kubelet is posting ready status", node.booted_at)
        if not node.ready:
            ready = _condition("Ready", "Unknown", "NodeStatusUnknown", "Kubelet stopped posting node status.", now)
        taint = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
        return {
            "kind": "Node", "apiVersion": "v1",
            "metadata": {
                "name": node.id, "uid": self._uid(node.id), "creationTimestamp": None,
                "labels": {"kubernetes.io/hostname": node.id, "nvidia.com/gpu.present": "true"},
            },
            "spec": {"unschedulable": True, "taints": [taint]} if node.cordoned else {},
            "status": {
                "capacity": {"nvidia.com/gpu": str(DEVICES)},
                "conditions": [
                    _condition("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory", node.booted_at),
                    ready,
                ],
            },
        }  # fmt: skip

    def _pod(self, pod: Pod, now: float) -> dict[str, Any]:
        meta: dict[str, Any] = {
            "name": pod.name, "namespace": "training", "uid": pod.uid, "creationTimestamp": _stamp(pod.made_at), "labels": pod.labels,
        }  # fmt: skip
        if pod.annotations:
            meta["annotations"] = dict(pod.annotations)
        if pod.deleted_at:
            meta |= {"deletionTimestamp": _stamp(pod.deleted_at + _GRACE_S), "deletionGracePeriodSeconds": _GRACE_S}
        running = pod.phase == "Running"
        state = {"running": {"startedAt": _stamp(pod.since)}} if running else {"waiting": {"reason": "ContainerCreating"}}
        container = {"name": "worker", "image": "registry.local/train:1", "ready": running, "restartCount": 0, "state": state}
        return {
            "kind": "Pod", "apiVersion": "v1", "metadata": meta,
            "spec": {"nodeName": pod.node.id, "restartPolicy": "Never", "containers": [{"name": "worker"}]},
            "status": {
                "phase": pod.phase, "containerStatuses": [container],
                "conditions": [_condition("Ready", "True" if running else "False", None, None, pod.since)],
            },
        }  # fmt: skip


def _condition(type: str, status: str, reason: str | None, message: str | None, since: float) -> dict[str, Any]:
    words = {"reason": reason, "message": message} if reason else {}
    return {"type": type, "status": status, "lastTransitionTime": _stamp(since), **words}


def _stamp(at: float) -> str:
    """A moment as the API writes it, in whole seconds."""
    return datetime.fromtimestamp(int(at), tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
