"""A job as its operations: every rank runs its list, a fault stops it, and each rank's dump is what a recorder would hold."""

import json
import pickle
from dataclasses import dataclass, field

Call = tuple[str, str]  # group, operation


@dataclass
class Rank:
    """program: what it calls in order; entered, done: how many of them it has enqueued, and completed."""

    program: list[Call]
    entered: int = 0
    done: int = 0


@dataclass
class Fleet:
    """A synchronous job.

    groups: name -> ranks; ahead: how many operations a host enqueues before it waits for the device (1: gloo, more: NCCL)
    host_stops: rank -> it enqueues only so many operations; device_stops: rank -> its device completes only so many,
    though its part of the next is done as far as its peers are concerned
    """

    groups: dict[str, tuple[int, ...]]
    programs: dict[int, list[Call]]
    ahead: int = 1
    host_stops: dict[int, int] = field(default_factory=dict)
    device_stops: dict[int, int] = field(default_factory=dict)
    ranks: dict[int, Rank] = field(init=False)

    def __post_init__(self) -> None:
        self.ranks = {r: Rank(program) for r, program in self.programs.items()}
        moved = True
        while moved:
            moved = bool(sum(self._enqueue(r) or self._complete(r) for r in self.ranks))  # every rank gets its turn

    def _enqueue(self, r: int) -> bool:
        one = self.ranks[r]
        if one.entered >= min(len(one.program), self.host_stops.get(r, len(one.program)), one.done + self.ahead):
            return False
        one.entered += 1
        return True

    def _complete(self, r: int) -> bool:
        one = self.ranks[r]
        if one.done >= one.entered or one.done >= self.device_stops.get(r, len(one.program)):
            return False
        group, _ = one.program[one.done]
        number = sum(1 for g, _ in one.program[: one.done] if g == group)
        if not all(self._reached(m, group, number) for m in self.groups[group]):
            return False
        one.done += 1
        return True

    def _reached(self, m: int, group: str, number: int) -> bool:
        """Whether a member's device stands in, or is past, the group's operation of that number."""
        one = self.ranks[m]
        at = [n for n, (g, _) in enumerate(one.program) if g == group]
        return number < len(at) and one.entered > at[number] and one.done >= at[number]

    def dump(self, r: int, *, gloo: bool = False, last: int = 2000, only_active: bool = False) -> bytes:
        """The recorder's pickle of a rank. last: size of its ring."""
        one = self.ranks[r]
        local = {name: str(n) for n, name in enumerate(name for name, members in self.groups.items() if r in members)}
        counts: dict[str, int] = {}
        entries = []
        for n, (group, op) in enumerate(one.program[: one.entered]):
            counts[group] = counts.get(group, 0) + 1
            entries.append(entry(n, group, local[group], op, counts[group], done=n < one.done, gloo=gloo))
        entries = [e for e in entries if not (only_active and e["state"] == "completed")][-last:]
        status = {
            local[g]: {
                "last_enqueued_collective": sum(1 for c, _ in one.program[: one.entered] if c == g) or -1,
                "last_started_collective": -1,
                "last_completed_collective": sum(1 for c, _ in one.program[: one.done] if c == g) or -1,
            }
            for g in local
        }
        config = (
            {"": {"name": "", "desc": "", "ranks": "[]"}}
            if gloo
            else {g: {"name": g, "desc": f"{g} group", "ranks": str(list(self.groups[g]))} for g in local}
        )
        return pickle.dumps(
            {"version": "2.10", "pg_config": config, "pg_status": status, "entries": entries}, protocol=2
        )

    def about(self, r: int, *, answered: bool = True, step: int = 1) -> bytes:
        """What the agent writes of a rank."""
        names = [name for name, members in self.groups.items() if r in members]
        groups = {g: {"local_id": str(n), "desc": g, "ranks": list(self.groups[g])} for n, g in enumerate(names)}
        said = {
            "kind": "holdfast.rank",
            "version": 1,
            "rank": r,
            "world_size": len(self.programs),
            "pid": 1000 + r,
            "groups": groups,
            "answered": answered,
            "step": step,
        }
        return json.dumps(said).encode()


def entry(
    n: int,
    group: str,
    local: str,
    op: str,
    seq: int,
    *,
    done: bool,
    gloo: bool = False,
    size: int = 1024,
    started: bool = False,
) -> dict[str, object]:
    """One record, as NCCL writes it or as gloo does."""
    p2p = "->" in op or "<-" in op
    return {
        "record_id": n, "pg_id": int(local), "process_group": [group, f"{group} group"], "collective_seq_id": -1 if p2p else seq,
        "p2p_seq_id": seq if p2p else 0, "op_id": n, "profiling_name": f"{'gloo' if gloo else 'nccl'}:{op}",
        "time_created_ns": 1_000_000 + n,
        "input_sizes": [[size]], "input_dtypes": ["Float"], "output_sizes": [[size]], "output_dtypes": ["Float"],
        "state": "scheduled" if gloo or not (done or started) else "completed" if done else "started",
        "time_discovered_started_ns": None, "time_discovered_completed_ns": None, "retired": done, "timeout_ms": 600_000, "is_p2p": p2p,
    }  # fmt: skip


def mesh(dp: int, tp: int) -> dict[str, tuple[int, ...]]:
    """Groups of a job of dp x tp ranks: the world, each tensor-parallel group, each data-parallel group; lone ones left out."""
    world = tuple(range(dp * tp))
    groups = {"world": world}
    groups |= {f"tp{d}": world[d * tp : (d + 1) * tp] for d in range(dp) if tp > 1}
    groups |= {f"dp{t}": world[t::tp] for t in range(tp) if dp > 1}
    return groups


def program(rank: int, groups: dict[str, tuple[int, ...]], steps: int) -> list[Call]:
    """What each step of a rank calls: twice its tensor-parallel group, then its data-parallel one, then the world."""
    mine = [name for name, members in groups.items() if rank in members]
    step: list[Call] = []
    for name in mine:
        if name.startswith("tp"):
            step += [(name, "all_reduce"), (name, "_all_gather_base")]
    step += [(name, "_reduce_scatter_base") for name in mine if name.startswith("dp")]
    return [*step, ("world", "all_reduce")] * steps
