"""The course of a hang: every rank's program, how far each has come, and when; what the witnesses in the other modules tell of."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from simulator.chance import stream
from simulator.evidence.acts import Act
from simulator.evidence.execution import Execution, Line, paces
from simulator.evidence.program import programs, startup
from simulator.evidence.records import Plan
from simulator.evidence.scene import Muddle, Scene
from simulator.evidence.stall import HOST, Kind, Stall, crossed, go_astray

_LAUNCH_AHEAD_S = 0.004


class Course:
    """Runs a scene. Work and memory are linear in the acts of all ranks of one step; what went before is the same step again."""

    def __init__(self, scene: Scene) -> None:
        self.scene, self.layout = scene, scene.layout
        self.stages = [self.layout.stage(rank) for rank in range(self.layout.world)]
        self.plain = programs(self.layout, scene.model)
        self.saving = programs(self.layout, scene.model, saves=True)
        self._plans: dict[tuple[int, bool], Plan] = {}
        self._before: dict[tuple[int, int], tuple[int, dict[str, np.ndarray]]] = {}
        self.numbered: dict[tuple[int, int], dict[str, np.ndarray]] = {}
        self.stalls: dict[int, Stall] = {stall.rank: stall for stall in scene.stalls}
        rng = stream(scene.seed, "paces")
        self._paces = paces(rng, self.layout.world)
        self.run = Execution(self.layout, self._programs(), self.stalls, self._paces, depth=scene.depth)

    @cached_property
    def healthy(self) -> Execution:
        """The same step where all goes well, with a checkpoint at its end."""
        acts = [self.saving[stage] for stage in self.stages]
        return Execution(self.layout, acts, {}, self._paces, depth=self.scene.depth)

    def _programs(self) -> list[tuple[Act, ...]]:
        """What each rank runs in the step that hangs."""
        now = self.saving if self.saves(self.scene.step) else self.plain
        acts = [now[stage] for stage in self.stages]
        for stall in self.scene.stalls:
            acts[stall.rank] = go_astray(acts[stall.rank], stall)
        if self.scene.muddle is not None:
            self._muddle(acts, *self.scene.muddle)
        return acts

    def _muddle(self, acts: list[tuple[Act, ...]], kind: Muddle, rank: int, at: int) -> None:
        act = acts[rank][at]
        if kind is Muddle.TORN:
            group = self.layout.group(rank, act.group)
            turn = _calls(acts[rank], act.group).index(at)
            for member in group.ranks[: group.size // 2] if group else ():
                # the same call of the group: where a member of another stage has it in its own program
                own = _calls(acts[member], act.group)
                acts[member] = go_astray(acts[member], Stall(member, Kind.OTHER_OP, own[min(turn, len(own) - 1)]))
            return
        peer = act.parts[0].peer
        for member, stage in enumerate(self.stages):
            if stage == self.stages[rank]:
                acts[member] = crossed(acts[member], at, peer)

    def saves(self, step: int) -> bool:
        return (step + 1) % self.scene.save_every == 0

    # --- who stands where

    def line(self, rank: int) -> Line:
        return self.run.lines[rank]

    def host_act(self, rank: int) -> Act:
        """The act in which a rank's host stands."""
        line = self.line(rank)
        return line.acts[min(line.host_at, len(line.acts) - 1)]

    def stalled(self, rank: int, *kinds: Kind) -> bool:
        """Whether a rank has come to its trouble, and it is one of the kinds."""
        stall = self.stalls.get(rank)
        return stall is not None and stall.kind in kinds and self.line(rank).fired

    @property
    def has_hung(self) -> bool:
        return any(line.at < len(line.acts) for line in self.run.lines)

    def holds_up(self, rank: int) -> bool:
        """Whether a rank's trouble has come, and by itself keeps a peer waiting that waits for nobody before it."""
        stall = self.stalls.get(rank)
        line = self.line(rank)
        if stall is None or not line.fired:
            return False
        if stall.kind in HOST and line.at != stall.at:
            return False
        return self.run.waited_for(rank) or (stall.kind not in HOST and stall.kind is not Kind.DEVICE_IN)

    # --- time

    @cached_property
    def step_s(self) -> float:
        """Seconds of a step without a checkpoint."""
        ends = [
            line.ended[len(self.plain[stage]) - 1] for line, stage in zip(self.healthy.lines, self.stages, strict=True)
        ]
        return max(ends) + 0.02

    @cached_property
    def saving_s(self) -> float:
        """Seconds that a checkpoint adds to a step."""
        return max(line.now for line in self.healthy.lines) - self.step_s + 0.02

    @cached_property
    def stood_at(self) -> float:
        """Unix seconds at which the last rank came to where it stands."""
        return self.scene.began_at + max(line.now for line in self.run.lines)

    @property
    def looked_at(self) -> float:
        """Unix seconds at which the evidence is taken."""
        return self.stood_at + self.scene.hung_s

    def began(self, step: int) -> float:
        """Unix seconds at which a step began."""
        scene = self.scene
        saved = sum(self.saves(s) for s in range(step, scene.step))
        return scene.began_at - (scene.step - step) * self.step_s - saved * self.saving_s

    # --- records

    def plan(self, stage: int, *, saving: bool) -> Plan:
        """The records of a whole step of a stage."""
        known = self._plans.get((stage, saving))
        if known is None:
            known = self._plans[stage, saving] = self._plan((self.saving if saving else self.plain)[stage], stage)
        return known

    def before(self, stage: int, step: int) -> tuple[int, dict[str, np.ndarray]]:
        """How many records a rank of a stage made before a step, and how far its groups had counted: see `Plan`."""
        known = self._before.get((stage, step))
        if known is None:
            saved = sum(self.saves(s) for s in range(max(0, step)))
            plain, saving = self.plan(stage, saving=False), self.plan(stage, saving=True)
            made = ((int(step >= 0), self.starting), (max(0, step) - saved, plain), (saved, saving))
            numbers: dict[str, np.ndarray] = {}
            for times, plan in made:
                for desc, totals in plan.totals.items():
                    numbers[desc] = numbers.get(desc, np.zeros(3, dtype=np.int64)) + times * np.asarray(totals)
            known = self._before[stage, step] = sum(times * plan.size for times, plan in made), numbers
        return known

    @cached_property
    def starting(self) -> Plan:
        """The records of the start."""
        return self._plan([act for act in startup() if self.layout.world > 1], 0)

    def plan_now(self, rank: int) -> Plan:
        """The records of the step that hangs, as a rank's program would leave them all."""
        acts, stage = self.line(rank).acts, self.stages[rank]
        for saving, known in ((False, self.plain[stage]), (True, self.saving[stage])):
            if acts is known:
                return self.plan(stage, saving=saving)
        return self._plan(acts, stage)

    def _plan(self, acts: Sequence[Act], stage: int) -> Plan:
        recording = self.scene.recording
        return Plan(acts, stage, batched=self.scene.model.batched_transfers, placed=recording.frames)

    def times(self, rank: int, *, now: bool) -> tuple[np.ndarray, np.ndarray]:
        """When a rank's host launched each act, and when it ended, in seconds of the step; NaN for never. now: in the step that hangs"""
        line = (self.run if now else self.healthy).lines[rank]
        issued, ended = np.asarray(line.issued), np.asarray(line.ended)
        launched = np.maximum(0.0, issued - _LAUNCH_AHEAD_S)
        for at in np.flatnonzero(np.isnan(launched)):
            launched[at] = launched[at - 1] + 0.0002 if at else 0.0
        return np.maximum.accumulate(launched), ended


def _calls(acts: Sequence[Act], group: str) -> list[int]:
    """The places of a program's calls of one group."""
    return [n for n, act in enumerate(acts) if act.talks and act.group == group]
