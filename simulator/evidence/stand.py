"""How a hung job stands: everything that its ranks, machines and libraries leave for whoever looks, from one scene."""

import json
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import msgspec

from simulator.evidence import machine, ras, recorder, stacks, watchdog
from simulator.evidence.course import Course
from simulator.evidence.scene import Scene
from simulator.evidence.truth import Truth, truth

# rank (None: the whole node), file name, data, why there is none
Piece = tuple[int | None, str, bytes, str]


class Stand:
    """A scene, run. Every answer is worked out when it is asked for, and is the same whenever it is asked."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.course = Course(scene)

    @cached_property
    def truth(self) -> Truth:
        return truth(self.course)

    def recorder(self, rank: int) -> bytes:
        """A rank's flight recorder dump, empty where nobody could ask for it."""
        return recorder.pickle_dump(self.course, rank) if self.answers(rank) else b""

    def recorder_json(self, rank: int) -> bytes:
        """The same as JSON."""
        return recorder.json_dump(self.course, rank) if self.answers(rank) else b""

    def stack(self, rank: int, *, attached: bool = False) -> bytes:
        """A rank's stacks as py-spy's JSON, empty where there is no process. attached: taken by stopping it, which not every one lets"""
        return stacks.as_json(self.course, rank) if not attached or machine.can_be_attached(self.course, rank) else b""

    def stack_text(self, rank: int) -> bytes:
        """The same as text."""
        return stacks.as_text(self.course, rank)

    def ras(self) -> bytes:
        """NCCL's RAS as JSON."""
        return ras.as_json(self.course)

    def ras_text(self) -> bytes:
        """NCCL's RAS as text."""
        return ras.as_text(self.course)

    @cached_property
    def _signal(self) -> tuple[float, int]:
        return watchdog.first_signal(self.course)

    def watchdog_lines(self, rank: int, at: float) -> list[str]:
        """What a rank's log holds of the hang at a moment, Unix seconds."""
        return watchdog.watchdog_lines(self.course, rank, at, first=self._signal)

    def device_load(self, rank: int) -> tuple[float, float]:
        """Utilisation, and power as a share of the limit."""
        return machine.device_load(self.course, rank)

    def query_gpu(self, node: int) -> bytes:
        """The same of a node's devices, as `nvidia-smi --query-gpu` lists it in CSV."""
        return machine.query_gpu(self.course, node)

    def process(self, rank: int) -> machine.Process:
        """A rank's process as the kernel shows it."""
        return machine.process(self.course, rank)

    def answers(self, rank: int) -> bool:
        """Whether a thread beside the one that trains can still speak for the process."""
        return machine.answers(self.course, rank)

    def about(self, rank: int) -> bytes:
        """What the agent writes of a rank."""
        scene = self.scene
        return msgspec.json.encode(machine.about(self.course, rank, step=scene.step - 1, stepped_at=scene.began_at))

    def processes(self, node: int) -> bytes:
        """The agent's table of the processes of a node's ranks."""
        ranks = list(self.scene.layout.ranks_of_node(node))
        head: dict[str, Any] = {
            "kind": "holdfast.processes",
            "version": 1,
            "host": self.scene.node(ranks[0]),
            "taken_at": self.course.looked_at,
        }
        return json.dumps({**head, "processes": [machine.row(self.course, rank) for rank in ranks]}).encode()

    def on_node(self, node: int) -> Iterator[Piece]:
        """What the agent of a node collects: its process table, and what each rank with a process gives."""
        yield None, "processes.json", self.processes(node), ""
        for rank in self.scene.layout.ranks_of_node(node):
            if machine.process(self.course, rank).state == "X":
                continue
            yield (
                rank,
                f"fr_rank{rank}",
                self.recorder(rank),
                "" if self.answers(rank) else "the side thread did not answer",
            )
            yield rank, f"stacks_rank{rank}.json", self.stack(rank), ""
            yield rank, f"rank{rank}.json", self.about(rank), ""
