"""What NCCL's RAS says of every communicator, JSON and text: who does not answer, who has launched fewer operations than its peers."""

import json
from collections import Counter
from typing import Any

import numpy as np

from simulator.evidence.course import Course
from simulator.evidence.groups import Group
from simulator.evidence.records import Plan
from simulator.evidence.stall import Kind

# The library counts its collectives; transfers, and what is made of them, it does not.
_COUNTED = {
    "broadcast": "Broadcast", "reduce": "Reduce", "_all_gather_base": "AllGather", "_reduce_scatter_base": "ReduceScatter",
    "all_reduce": "AllReduce", "all_reduce_barrier": "AllReduce",
}  # fmt: skip
_ORDER = ("Broadcast", "Reduce", "AllGather", "ReduceScatter", "AllReduce")
_MOST_LISTED = 8
_HEAD = """\
NCCL version {library} compiled with CUDA 12.9
CUDA runtime version 12090, driver version 12090

Job summary
===========

  Nodes  Processes         GPUs  Processes     GPUs
(total)   per node  per process    (total)  (total)
{nodes:7d}{a_node:11d}            1{world:11d}{world:9d}

Communicators... (0.00s)
=============

Group     Comms     Nodes     Ranks     Ranks     Ranks    Status  Errors
    #  in group  per comm  per node  per comm  in group
"""


def launched(course: Course, rank: int) -> dict[str, dict[str, int]]:
    """How many collectives of each kind a rank's host has launched: description of a group -> kind -> number."""
    stage, step = course.stages[rank], course.scene.step
    saves = sum(course.saves(s) for s in range(step))
    now = course.plan_now(rank)
    found: dict[str, dict[str, int]] = {}
    for times, plan, entered in (
        (1, course.starting, None), (step - saves, course.plan(stage, saving=False), None), (saves, course.plan(stage, saving=True), None),
        (1, now, course.line(rank).entered),
    ):  # fmt: skip
        for (desc, kind), count in _counts(plan, entered).items():
            row = found.setdefault(desc, dict.fromkeys(_ORDER, 0))
            row[kind] += times * count
    return found


def _counts(plan: Plan, entered: int | None) -> Counter[tuple[str, str]]:
    kept = plan.row if entered is None else plan.row[plan.act < entered]
    numbers = np.bincount(kept, minlength=len(plan.rows)).tolist()
    counts: Counter[tuple[str, str]] = Counter()
    for row, number in zip(plan.rows, numbers, strict=False):
        if row.name in _COUNTED:
            counts[row.group, _COUNTED[row.name]] += int(number)
        elif number and not row.p2p:
            counts[row.group, "AllReduce"] += 0  # it has a communicator all the same
    return counts


def _answers(course: Course, rank: int) -> bool:
    """RAS has a thread of its own: it speaks while the interpreter does not, and is silent only with the process."""
    return not course.stalled(rank, Kind.STOPPED, Kind.GONE)


def communicators(course: Course) -> list[dict[str, Any]]:
    """A row for each communicator, the members that answer and those that do not apart."""
    counts = [launched(course, rank) for rank in range(course.layout.world)]
    rows = []
    for group in course.layout.groups.values():
        if group.size > 1 and any(group.desc in counts[r] for r in group.ranks):
            rows.append(_communicator(course, group, counts))
    return rows


def _communicator(course: Course, group: Group, counts: list[dict[str, dict[str, int]]]) -> dict[str, Any]:
    scene = course.scene
    present, missing = [], []
    for number, rank in enumerate(group.ranks):
        who = {"rank": number, "host": scene.node(rank), "pid": scene.pid(rank)}
        if _answers(course, rank):
            status = {
                "init_state": 0,
                "async_error": 0,
                "finalize_called": False,
                "destroy_flag": False,
                "abort_flag": False,
            }
            told = counts[rank].get(group.desc, dict.fromkeys(_ORDER, 0))
            present.append(
                {**who, "cuda_dev": rank % course.layout.per_node, "status": status, "collective_counts": told}
            )
        else:
            gone = course.stalled(rank, Kind.GONE)
            missing.append({**who, "status": {"unresponsive": True, "considered_dead": gone}})
    mark = (int(group.name) + 1) * 0x9E3779B97F4A7C15 + scene.seed
    return {
        "hash": f"0x{mark & (1 << 64) - 1:016x}", "secondary_hash": f"0x{mark * 31 & (1 << 64) - 1:016x}", "size": group.size,
        "ranks_count": len(present), "missing_ranks_count": len(missing), "ranks": present, "missing_ranks": missing,
    }  # fmt: skip


def as_json(course: Course) -> bytes:
    """`ncclras -f json`."""
    rows = communicators(course)
    head = {
        "nccl_version": course.scene.recording.library,
        "timestamp": int(course.looked_at),
        "communicators_count": len(rows),
    }
    return json.dumps({**head, "communicators": rows}).encode()


def as_text(course: Course) -> bytes:
    """`ncclras`, as NCCL's user guide shows it (Troubleshooting, RAS)."""
    layout, rows = course.layout, communicators(course)
    head = _HEAD.format(
        library=course.scene.recording.library, nodes=-(-layout.world // layout.per_node), a_node=min(layout.per_node, layout.world),
        world=layout.world,
    )  # fmt: skip
    lines = head.splitlines()
    told: list[str] = []
    by_size: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        by_size.setdefault(row["size"], []).append(row)
    for number, size in enumerate(sorted(by_size, reverse=True)):
        group = by_size[size]
        problems = [(n, text) for n, row in enumerate(group) if (text := _problem(row, f"#{number}-{n}"))]
        errors = "INCOMPLETE" if any(row["missing_ranks"] for row in group) else "MISMATCH" if problems else "OK"
        per_node = min(size, layout.per_node)
        lines.append(
            f"{number:5d}{len(group):10d}{-(-size // per_node):10d}{per_node:10d}{size:10d}{size * len(group):10d}   RUNNING  {errors}"
        )
        told += [line for _, text in problems for line in text]
    return "\n".join([*lines, "", "Errors", "======", "", "Warnings", "========", "", *told, ""]).encode()


def _problem(row: dict[str, Any], name: str) -> list[str]:
    """The sentences on one communicator; none where all is well."""
    lines: list[str] = []
    if row["missing_ranks"]:
        lines += [
            f"{name} ({row['hash'][2:]}) INCOMPLETE",
            f"  Missing communicator data from {len(row['missing_ranks'])} rank(s)",
        ]
        lines += [
            f"  Rank {r['rank']} -- managed by process {r['pid']} on node {r['host']}"
            for r in row["missing_ranks"][:_MOST_LISTED]
        ]
    totals = Counter(sum(r["collective_counts"].values()) for r in row["ranks"])
    if len(totals) > 1:
        lines += [
            f"{name} ({row['hash'][2:]}) MISMATCH",
            "  Communicator ranks have different collective operation counts",
        ]
        lines += [f"  {ranks} ranks have launched up to operation {count}" for count, ranks in totals.most_common()]
        usual = totals.most_common(1)[0][0]
        odd = [r for r in row["ranks"] if sum(r["collective_counts"].values()) != usual]
        lines += [
            f"  Rank {r['rank']} -- GPU {r['cuda_dev']} managed by process {r['pid']} on node {r['host']}"
            for r in odd[:_MOST_LISTED]
        ]
    return [*lines, ""] if lines else []
