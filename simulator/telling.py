"""What is said of a training job: by its agents, in its logs, and as columns where no text is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from holdfast.events import Beat, Beats, Observation, Steps
from holdfast.topology import JobId
from simulator.agents import Record
from simulator.chance import key_of, normals, uniforms
from simulator.nodes import DEVICES, Node

if TYPE_CHECKING:
    from simulator.training import TrainingJob

SIGNALS = (
    "step_s", "loss", "grad_norm", "tokens", "phase.forward_s", "phase.backward_s", "phase.all_reduce_s", "phase.data_s",
    "phase.checkpoint_s",
)  # fmt: skip
_CHECKPOINT_BYTES = 2_000_000_000  # of a rank


class Teller:
    """Speaks for one job."""

    def __init__(self, job: TrainingJob) -> None:
        self._job = job
        self._key = np.array([key_of(job.cluster.seed, "loss", job.name)], dtype=np.uint64)
        self._steps: list[tuple[np.ndarray, float]] = []  # values of all ranks of a step, and when it ended
        self._beats: tuple[object, tuple[Beat, ...]] = ((), ())

    # --- streams

    def forget(self) -> None:
        """What was not told of an attempt is not told of the next."""
        self._steps.clear()

    def stepped(self, whole_s: float, *, checkpoint_s: float) -> None:
        """A step has ended, `whole_s` after the one before: the ranks' reports, and the line in the log."""
        job, step = self._job, self._job.step
        loss = self._loss(step)
        grad_norm = float("nan") if job.nan else 0.4 + 0.1 * float(uniforms(self._key, step, 3)[0, 2])
        values = np.empty((job.shape.world, len(SIGNALS)))
        values[:, 0], values[:, 1], values[:, 2], values[:, 3] = whole_s, loss, grad_norm, job.work.tokens(step)
        values[:, 4:8], values[:, 8] = job.work.phases(step, job.nodes), checkpoint_s
        self._steps.append((np.round(values, 6), job.stepped_at))
        self._log_step(whole_s, loss, grad_norm)

    def beat(self) -> list[Observation]:
        """Every agent of the job says how its ranks stand."""
        job, cluster = self._job, self._job.cluster
        steps, self._steps = self._steps, []
        said: list[Observation] = []
        quiet: list[int] = []
        for n, node in enumerate(job.nodes):
            if job.nan or cluster.in_text(node):  # a column has no name for what is no number
                self._beat_in_text(n, node, steps)
            elif (heard := cluster.agents.number(node, cluster.now)) is not None:
                said.append(heard)
                quiet.append(n)
        if quiet:
            said += self._columns(quiet, steps)
        return said

    def _beat_in_text(self, n: int, node: Node, steps: list[tuple[np.ndarray, float]]) -> None:
        job, agents = self._job, self._job.cluster.agents
        ranks, first = job.ranks_on(node), n * DEVICES
        for back, (values, ended_at) in enumerate(steps, 1 - len(steps)):
            agents.say(node, _steps_record(list(ranks), job.step + back, ended_at, values[first : first + DEVICES].tolist()))
        told = self._state()
        living = [{"rank": r, **told} for r in ranks if told and r not in job.ended]
        agents.say(node, {"type": "beat", "at": job.cluster.now, "ranks": living})
        agents.tell(node, job.cluster.now)

    def _columns(self, quiet: list[int], steps: list[tuple[np.ndarray, float]]) -> list[Observation]:
        job, now, source = self._job, self._job.cluster.now, f"agents:{self._job.name}"
        ranks = (np.array(quiet)[:, None] * DEVICES + np.arange(DEVICES)[None, :]).ravel()
        said: list[Observation] = []
        for back, (values, ended_at) in enumerate(steps, 1 - len(steps)):
            said.append(
                Steps(
                    at=ended_at, source=source, job=JobId(job.name), ranks=ranks, steps=np.full(len(ranks), job.step + back),
                    ended_at=np.full(len(ranks), ended_at), signals=SIGNALS, values=values[ranks],
                )
            )  # fmt: skip
        told = self._state()
        key = (tuple(told.items()), tuple(job.ended), tuple(quiet))
        if key != self._beats[0]:  # most beats say what the one before said
            self._beats = key, tuple(map(_beat_of(told), (r for r in ranks.tolist() if r not in job.ended))) if told else ()
        said.append(Beats(at=now, source=source, job=JobId(job.name), attempt=job.attempt, beats=self._beats[1]))
        return said

    def _state(self) -> Record:
        """What every living rank says of itself; nothing where none runs."""
        job, now = self._job, self._job.cluster.now
        if job.state != "running":
            return {}
        saving = now < job.saving_until
        stepped_at = job.stepped_at if job.step > job.saved or job.stepped_at > job.begun_at else 0.0
        phase, phase_at = ("checkpoint", job.stepped_at) if saving else ("", 0.0)
        if job.stepped_at == job.begun_at:
            phase, phase_at = self._startup(now - job.begun_at)
        return {
            "step": job.step if stepped_at else -1, "stepped_at": stepped_at, "phase": phase, "phase_at": phase_at,
            "cpu_s": round(0.9 * (job.stepped_at - job.begun_at), 3),
            "io_bytes": _CHECKPOINT_BYTES * (job.step // job.shape.checkpoint_every + 1),
        }  # fmt: skip

    def _startup(self, past_s: float) -> tuple[str, float]:
        """The phase of the start that the ranks are in, and since when."""
        since = self._job.begun_at
        for name, seconds in self._job.shape.startup:
            if past_s < seconds:
                return name, since
            past_s, since = past_s - seconds, since + seconds
        return "", 0.0

    # --- what is rare

    def begun(self) -> None:
        """The processes of an attempt are there."""
        job = self._job
        self.job("started", facts=job.facts())
        for node in job.nodes:
            job.cluster.agents.say(node, *(self._process(rank, "running") for rank in job.ranks_on(node)))
        self.say(0, f"[holdfast-sim] attempt {job.attempt}: {job.shape.world} ranks, resuming after step {job.saved}")

    def say(self, rank: int, *text: str) -> None:
        """Lines of a rank's own output."""
        job = self._job
        job.cluster.write(f"attempt-{job.attempt}/rank{rank}.log", *text, node=job.node_of(rank))

    def process(self, rank: int, state: str, **known: Any) -> None:
        """A rank's process is in another state."""
        self._job.cluster.agents.say(self._job.node_of(rank), self._process(rank, state, **known))

    def job(self, state: str, **known: Any) -> None:
        """The agent beside rank 0 tells of the whole job."""
        job = self._job
        record = {
            "type": "job", "at": job.cluster.now, "state": state, "attempt": job.attempt, "exit_code": None, "signal": None,
            "world_size": job.shape.world, "pid": 19_000, **known,
        }  # fmt: skip
        if job.nodes:  # a job that waits in the queue has nobody who could say anything
            job.cluster.agents.say(job.nodes[0], record)

    def _process(self, rank: int, state: str, **known: Any) -> Record:
        job, now = self._job, self._job.cluster.now
        return {
            "type": "process", "at": now, "rank": rank, "pid": job.pid(rank), "start_time": int((now - job.cluster.start) * 100),
            "name": "python3", "state": state, "exit_code": None, "signal": None, "since": now, "wchan": "", "parent": 19_000, **known,
        }  # fmt: skip

    # --- how well it learns

    def _loss(self, step: int) -> float:
        """The loss of a step: the data's, so it is the same in every run, and some noise of this one."""
        if self._job.nan:
            return float("nan")
        noise = 0.01 * float(normals(self._key, step, 1)[0, 0])
        return float(1.8 + 9.0 / (step + 10) ** 0.5 + noise + self._job.bumps.get(step, 0.0))

    def _log_step(self, seconds: float, loss: float, grad_norm: float) -> None:
        job, shape = self._job, self._job.shape
        shown = f" lm loss: {loss:.6E} |" if not job.nan else ""
        tflops = shape.tokens_per_step * shape.flops_per_token / seconds / shape.world / 1e12
        self.say(
            shape.world - 1,
            f" iteration {job.step + 1:8d}/  500000 | consumed samples: {(job.step + 1) * 1024:12d} | elapsed time per iteration (ms): "
            f"{seconds * 1e3:.1f} | throughput per GPU (TFLOP/s/GPU): {tflops:.1f} | learning rate: 1.500000E-04 | global batch size: "
            f" 1024 |{shown} loss scale: 1.0 | grad norm: {grad_norm:.3f} | number of skipped iterations:   0 | number of nan "
            f"iterations: {int(job.nan):3d} |",
        )


def _beat_of(told: Record) -> Callable[[int], Beat]:
    """rank -> its beat. By name each: a mapping taken apart for every rank costs twice as much."""
    step, stepped_at, phase, phase_at = told["step"], told["stepped_at"], told["phase"], told["phase_at"]
    cpu_s, io_bytes = told["cpu_s"], told["io_bytes"]

    def beat(rank: int) -> Beat:
        return Beat(rank=rank, step=step, stepped_at=stepped_at, phase=phase, phase_at=phase_at, cpu_s=cpu_s, io_bytes=io_bytes)

    return beat


def _steps_record(ranks: list[int], step: int, ended_at: float, rows: list[list[float]]) -> Record:
    """The reports of a node's ranks. What is no number is told beside it, as `<name>_nan`: JSON has no word for it."""
    told: list[list[float | None]] = [[value if value == value else None for value in row] for row in rows]
    odd = [name for n, name in enumerate(SIGNALS) if any(row[n] is None for row in told)]
    for row in told:
        row += [float(row[SIGNALS.index(name)] is None) for name in odd]
    return {
        "type": "steps", "at": ended_at, "ranks": ranks, "steps": [step] * len(ranks), "ended_at": [ended_at] * len(ranks),
        "signals": (*SIGNALS, *(f"{name}_nan" for name in odd)), "values": told,
    }  # fmt: skip
