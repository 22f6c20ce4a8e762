"""Stories of jobs, their code and their data, of the platform around them, and of what only looks like a fault."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulator.stories.story import OnRank, Struck, Truth, crash
from simulator.training import Stuck, TrainingJob

if TYPE_CHECKING:
    from simulator.world import World


@dataclass(frozen=True, kw_only=True)
class PodDeleted(OnRank):
    """Somebody, or something, deletes a worker."""

    def play(self, world: World, told: Struck) -> Iterator[float]:
        job, node = self.training(world), self.node(world)
        attempt, pod = job.attempt, job.pod(job.nodes.index(node))
        world.cluster.scheduler.terminate(pod, world.cluster.now)
        job.stuck = Stuck("gone", self.rank)
        yield 3.0
        if job.attempt == attempt and node in job.nodes:
            for rank in job.ranks_on(node):
                job.end(rank, signal=15)
            world.cluster.scheduler.remove(pod, world.cluster.now)


@dataclass(frozen=True, kw_only=True)
class Telemetry(OnRank):
    """Something is wrong with what is heard of a node for a while; the job goes on. what: the node's attribute that has `value` then"""

    what: str
    value: bool | float
    lasting_s: float

    def play(self, world: World, told: Struck) -> Iterator[float]:
        node = self.node(world)
        usual = getattr(node, self.what)
        setattr(node, self.what, self.value)
        yield self.lasting_s
        setattr(node, self.what, usual)
        told.ended_at = world.cluster.now


@dataclass(frozen=True, kw_only=True)
class AgentCrash(OnRank):
    """An agent dies, what it had not sent is lost, and it is started again; the job goes on."""

    away_s: float = 30.0

    def play(self, world: World, told: Struck) -> Iterator[float]:
        node = self.node(world)
        node.silent = True
        yield self.away_s
        world.cluster.agents.crash(node)
        node.silent = False
        told.ended_at = world.cluster.now


@dataclass(frozen=True, kw_only=True)
class LossNan(OnRank):
    """The loss is no number from here on."""

    def play(self, world: World, told: Struck) -> Iterator[float]:
        self.training(world).nan = True
        yield from ()


@dataclass(frozen=True, kw_only=True)
class SilentCorruption(OnRank):
    """A device computes wrongly, with finite numbers: the loss leaves its way and does not come back."""

    def play(self, world: World, told: Struck) -> Iterator[float]:
        job, attempt = self.training(world), self.training(world).attempt
        first = job.step + 1
        job.bumps |= {first + n: min(4.0, 0.25 * (n + 1)) for n in range(400)}
        while job.attempt == attempt and job.state == "running":
            yield 1.0
        job.bumps.clear()


@dataclass(frozen=True, kw_only=True)
class DataBump(OnRank):
    """Some steps of unusual data: the loss jumps and heals by itself, in every run at the same steps."""

    height: float = 1.2
    steps: int = 4

    def play(self, world: World, told: Struck) -> Iterator[float]:
        job = self.training(world)
        first = job.step + 2
        job.bumps |= {first + n: self.height / (n + 1) for n in range(self.steps)}
        while job.step < first + self.steps and job.state == "running":
            yield 1.0
        told.ended_at = world.cluster.now


@dataclass(frozen=True, kw_only=True)
class UserError(OnRank):
    """The job's own code fails at one sample, every time; its owner mends it after a while."""

    mended_after_s: float = 120.0

    def play(self, world: World, told: Struck) -> Iterator[float]:
        job = self.training(world)
        at = job.step
        for _ in range(6):
            while job.state != "running" or job.step < at:
                if job.state == "stopped":
                    break
                yield 1.0
            if job.state == "stopped":
                break
            attempt = job.attempt
            self._raise(job)
            yield 2.0
            job.fail(1, attempt=attempt)
            while job.attempt == attempt and job.state != "stopped":
                yield 1.0
        yield self.mended_after_s
        if job.state == "stopped" and job.nodes:
            job.start(world.cluster.now, job.shape.schedule_s)
        elif job.state == "stopped":
            world.enqueue(job, job.shape.schedule_s)
        told.ended_at = world.cluster.now

    def _raise(self, job: TrainingJob) -> None:
        job.stuck = Stuck("gone", self.rank)
        job.say(
            self.rank,
            "Traceback (most recent call last):",
            '  File "/opt/job/pretrain.py", line 140, in train_step',
            "    batch = collate(samples)",
            '  File "/opt/job/data.py", line 57, in collate',
            '    raise ValueError(f"token id {token} is outside of the vocabulary")',
            "ValueError: token id 131072 is outside of the vocabulary",
        )
        job.end(self.rank, exit_code=1)


@dataclass(frozen=True, kw_only=True)
class Choreography(OnRank):
    """Two groups of ranks call two collectives in different order: everybody waits, and no rank is to blame."""

    def play(self, world: World, told: Struck) -> Iterator[float]:
        self.training(world).stuck = Stuck("choreography", self.rank)
        yield from ()


@dataclass(frozen=True, kw_only=True)
class TimeLimit(OnRank):
    """The scheduler ends the job because its time is up; its owner submits it again."""

    again_after_s: float = 120.0

    def play(self, world: World, told: Struck) -> Iterator[float]:
        job, cluster = self.training(world), world.cluster
        words = "CANCELLED AT 2027-01-15T09:12:44 DUE TO TIME LIMIT ***"
        for node in job.nodes[:1]:
            cluster.write(f"attempt-{job.attempt}/slurm.out", f"slurmstepd: error: *** STEP 8841.0 ON {node.id} {words}", node=node)
        attempt = job.attempt
        job.stuck = Stuck("gone", self.rank)
        for rank in range(job.shape.world):
            job.end(rank, signal=15)
        yield 1.0
        job.fail(143, attempt=attempt)
        yield self.again_after_s
        if job.state == "failed" and job.nodes:
            job.start(cluster.now, job.shape.schedule_s)
        told.ended_at = cluster.now


@dataclass(frozen=True, kw_only=True)
class HeavyLastStage(OnRank):
    """The last pipeline stage has more to do than the others from here on: a change of the workload, no machine's fault."""

    more: float = 1.3
    lasting_s: float = 400.0

    def play(self, world: World, told: Struck) -> Iterator[float]:
        job = self.training(world)
        job.work.drag.stages = (*(1.0,) * (job.shape.pp - 1), self.more)
        yield self.lasting_s
        job.work.drag.stages = ()
        told.ended_at = world.cluster.now


@dataclass(frozen=True, kw_only=True)
class Maintenance(OnRank):
    """Planned: idle nodes are cordoned for a while and come back. Nothing is wrong."""

    count: int = 2
    lasting_s: float = 300.0

    def play(self, world: World, told: Struck) -> Iterator[float]:
        nodes = world.free(self.count)
        for node in nodes:
            world.cluster.scheduler.cordon(node, world.cluster.now)
        yield self.lasting_s
        for node in nodes:
            if not node.repairing:
                world.cluster.scheduler.take_back(node, world.cluster.now)
        told.ended_at = world.cluster.now


@dataclass(frozen=True, kw_only=True)
class BadRollout(OnRank):
    """A new image with a wrong library on some nodes: their ranks crash one after the other, with the same words."""

    ranks: int = 3

    def play(self, world: World, told: Struck) -> Iterator[float]:
        job = self.training(world)
        for n in range(self.ranks):
            rank = (self.rank + n * 8) % job.shape.world
            words = "ImportError: libnccl.so.2: undefined symbol: ncclCommWindowRegister"
            place = '  File "/opt/job/pretrain.py", line 4, in <module>'
            job.say(rank, "Traceback (most recent call last):", place, "    import torch", words)
        yield from crash(job, self.rank, exit_code=1)


@dataclass(frozen=True, kw_only=True)
class EngineStory:
    """Something is wrong with one inference engine. what: the attribute of the engine that is set"""

    name: str
    truth: Truth
    job: str
    engine: int = 0
    what: str = "stalled"

    def nodes(self, world: World) -> tuple[str, ...]:
        return (world.services[self.job].engines[self.engine].node.id,)

    def play(self, world: World, told: Struck) -> Iterator[float]:
        setattr(world.services[self.job].engines[self.engine], self.what, True)
        yield from ()
