"""What a stuck job's ranks would leave behind: flight recorder dumps, stacks, process tables, as the real programs write them."""

import json
import pickle
from collections.abc import Iterator
from dataclasses import dataclass, field

from simulator.nodes import Node
from simulator.training import TrainingJob

_STEPS = 3  # how many steps a dump shows; a real ring holds more of the same

Key = tuple[str, tuple[int, ...]]  # group, and who meets in it
Piece = tuple[int | None, str, bytes, str]  # rank (None: the whole node), file name, data, why there is none


@dataclass(frozen=True)
class Call:
    """One operation of a rank's program. side: "send 0->1" of a transfer, in ranks of the group."""

    group: str
    op: str
    members: tuple[int, ...]
    side: str = ""


@dataclass
class Program:
    """A rank's operations, how many it has enqueued and how many are complete; places: key -> indices."""

    calls: list[Call]
    entered: int = 0
    done: int = 0
    places: dict[Key, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for n, call in enumerate(self.calls):
            self.places.setdefault((call.group, call.members), []).append(n)


class Groups:
    """The process groups of a job of dp x pp x tp ranks: tensor-parallel ranks lie next to each other, then pipeline stages."""

    def __init__(self, dp: int, pp: int, tp: int) -> None:
        world = dp * pp * tp
        self.all: dict[str, tuple[int, ...]] = {"0": tuple(range(world))}
        self.desc = {"0": "default_pg"}
        self.of: dict[int, dict[str, str]] = {r: {} for r in range(world)}
        for kind, size, stride in (("TENSOR", tp, 1), ("PIPELINE", pp, tp), ("DATA", dp, tp * pp)):
            seen: set[int] = set()
            for r in range(world):
                if r not in seen:
                    base = r
                    members = tuple(base + n * stride for n in range(size))
                    seen.update(members)
                    self._add(kind, members)

    def _add(self, kind: str, members: tuple[int, ...]) -> None:
        name = str(len(self.all))
        self.all[name] = members
        self.desc[name] = f"{kind}_PARALLEL_GROUP"
        for r in members:
            self.of[r][kind] = name


def step_of(groups: Groups, rank: int) -> list[Call]:
    """What one step of a rank calls: its tensor group in each layer, its neighbours in the pipeline, its data group, the world."""
    mine = groups.of[rank]
    tensor, pipe, data = (mine[kind] for kind in ("TENSOR", "PIPELINE", "DATA"))
    line = groups.all[pipe]
    at = line.index(rank)
    calls: list[Call] = []
    if at > 0:
        calls.append(Call(pipe, "recv", (line[at - 1], rank), f"recv {at}<-{at - 1}"))
    calls += [Call(tensor, "all_reduce", groups.all[tensor]), Call(tensor, "_all_gather_base", groups.all[tensor])]
    if at < len(line) - 1:
        calls.append(Call(pipe, "send", (rank, line[at + 1]), f"send {at}->{at + 1}"))
    calls.append(Call(data, "_reduce_scatter_base", groups.all[data]))
    return [*calls, Call("0", "all_reduce", groups.all["0"])]


class Stand:
    """Where every rank stands when one of them stops: its host before an operation, or its device in one."""

    def __init__(self, job: TrainingJob) -> None:
        shape = job.shape
        self.job = job
        self.groups = Groups(shape.dp, shape.pp, shape.tp)
        self.programs = {r: Program(step_of(self.groups, r) * _STEPS) for r in range(shape.world)}
        self.odd = job.stuck.rank if job.stuck else -1
        self.by_device = self._kind() == "device"
        self.stops_at = len(step_of(self.groups, max(self.odd, 0))) * (_STEPS - 1) + 1
        self._run()

    def _run(self) -> None:
        moved = True
        while moved:
            moved = bool(sum(self._enqueue(r) or self._complete(r) for r in self.programs))

    def _enqueue(self, r: int) -> bool:
        one = self.programs[r]
        bound = self.stops_at if r == self.odd and not self.by_device else len(one.calls)
        if one.entered >= min(bound, one.done + 4):
            return False
        one.entered += 1
        return True

    def _complete(self, r: int) -> bool:
        one = self.programs[r]
        if one.done >= one.entered or (r == self.odd and self.by_device and one.done >= self.stops_at):
            return False
        call = one.calls[one.done]
        key = (call.group, call.members)
        number = one.places[key].index(one.done)
        if not all(self._is_there(m, key, number) for m in call.members):
            return False
        one.done += 1
        return True

    def _is_there(self, m: int, key: Key, number: int) -> bool:
        one = self.programs[m]
        at = one.places[key][number]
        return one.entered > at and one.done >= at

    # --- files

    def on_node(self, node: Node) -> Iterator[Piece]:
        """What the agent of a node collects: its process table, and what its living ranks give."""
        job = self.job
        ranks = job.ranks_on(node)
        yield None, "processes.json", self.table(node), ""
        for r in ranks:
            if r in job.ended or (r == self.odd and self._kind() == "gone"):
                continue
            answers = not (r == self.odd and self._kind() == "stopped")
            if answers:
                yield r, f"fr_rank{r}", self.recorder(r), ""
            else:
                yield r, f"fr_rank{r}", b"", "the side thread did not answer"
            yield r, f"stacks_rank{r}.json", self.stack(r), ""
            yield r, f"rank{r}.json", self.about(r, node, answers=answers), ""

    def _kind(self) -> str:
        return self.job.stuck.kind if self.job.stuck else ""

    def about(self, r: int, node: Node, *, answers: bool) -> bytes:
        """What the agent writes of a rank: its groups, as far as its side thread says them."""
        job, groups = self.job, {}
        for n, (name, members) in enumerate((name, m) for name, m in self.groups.all.items() if r in m):
            groups[name] = {"local_id": str(n), "desc": self.groups.desc[name], "ranks": members, "backend": "nccl"}
        about = {
            "kind": "holdfast.rank", "version": 1, "rank": r, "world_size": job.shape.world, "pid": job.pid(r), "start_time": 0,
            "host": node.id, "taken_at": job.cluster.now, "backend": "nccl" if answers else "", "groups": groups if answers else {},
            "answered": answers, "answer_s": 0.02 if answers else 0.0, "step": job.step, "stepped_at": job.stepped_at, "phase": "",
            "phase_at": 0.0,
        }  # fmt: skip
        return json.dumps(about).encode()

    def recorder(self, r: int) -> bytes:
        """A rank's recorder, as NCCL's writes it."""
        one, groups = self.programs[r], self.groups
        mine = [name for name, members in groups.all.items() if r in members]
        local = {name: n for n, name in enumerate(mine)}
        before = (self.job.step - _STEPS + 2) if self.job.step > _STEPS else 0
        counts: dict[tuple[str, bool], int] = {}
        entries = []
        for n, call in enumerate(one.calls[: one.entered]):
            kind = (call.group, bool(call.side))
            per_step = len([c for c in one.calls[: len(one.calls) // _STEPS] if (c.group, bool(c.side)) == kind])
            counts[kind] = counts.get(kind, before * per_step) + 1
            entries.append(self._entry(n, call, local[call.group], counts[kind], done=n < one.done))
        status = {
            str(local[g]): {
                "last_enqueued_collective": counts.get((g, False), -1), "last_started_collective": -1,
                "last_completed_collective": -1,
            }
            for g in mine
        }  # fmt: skip
        config = {g: {"name": g, "desc": groups.desc[g], "ranks": str(list(groups.all[g]))} for g in mine}
        whole = {"version": "2.10", "comm_lib_version": "2.27.3", "pg_config": config, "pg_status": status, "entries": entries}
        return pickle.dumps(whole, protocol=2)

    def _entry(self, n: int, call: Call, local: int, seq: int, *, done: bool) -> dict[str, object]:
        p2p = bool(call.side)
        made = int(self.job.stepped_at * 1e9) + n
        return {
            "record_id": n, "pg_id": local, "process_group": [call.group, self.groups.desc[call.group]],
            "collective_seq_id": 0 if p2p else seq, "p2p_seq_id": seq if p2p else 0, "op_id": n,
            "profiling_name": f"nccl:{call.side or call.op}", "time_created_ns": made, "input_sizes": [[4096, 8192]],
            "input_dtypes": ["BFloat16"], "output_sizes": [[4096, 8192]], "output_dtypes": ["BFloat16"],
            "state": "completed" if done else "scheduled", "time_discovered_started_ns": None,
            "time_discovered_completed_ns": made + 1 if done else None, "retired": done, "timeout_ms": 600_000, "is_p2p": p2p,
        }  # fmt: skip

    def stack(self, r: int) -> bytes:
        """A rank's main thread, as py-spy shows it."""
        if r == self.odd and not self.by_device:
            frames = [("wait", "threading.py", 355), ("next_batch", "pretrain.py", 88), ("train_step", "pretrain.py", 140)]
        else:
            frames = [("synchronize", "torch/cuda/streams.py", 101), ("train_step", "pretrain.py", 151)]
        rows = [{"name": name, "filename": file, "line": line} for name, file, line in (*frames, ("main", "pretrain.py", 210))]
        thread = {"pid": 20_000 + r, "thread_id": 1, "thread_name": "MainThread", "active": True, "owns_gil": False, "frames": rows}
        return json.dumps([thread]).encode()

    def table(self, node: Node) -> bytes:
        """The processes of a node's ranks, the ended ones with how they ended."""
        job, rows = self.job, []
        for r in self.job.ranks_on(node):
            exit_code, signal = job.ended.get(r, (None, None))
            gone = r in job.ended or (r == self.odd and self._kind() == "gone")
            state = "X" if gone else "T" if r == self.odd and self._kind() == "stopped" else "S"
            rows.append({
                "pid": job.pid(r), "parent": 19_000, "rank": r, "name": "python3", "command": "python3 pretrain.py", "state": state,
                "wchan": "", "start_time": 0, "cpu_s": 0.0, "io_bytes": 0, "exit_code": exit_code, "signal": signal,
                "since": job.stepped_at,
            })  # fmt: skip
        head = {"kind": "holdfast.processes", "version": 1, "host": node.id, "taken_at": job.cluster.now}
        return json.dumps({**head, "processes": rows}).encode()
