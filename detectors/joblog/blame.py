"""Whom a root names: the rank, the node, the device or the end of a link, and what is missing where it names nobody."""

import re
from collections import Counter
from collections.abc import Sequence

from detectors.joblog.errorfile import Failure
from detectors.joblog.marks import Mark
from detectors.joblog.places import Places, node_in
from holdfast.faults import Fault
from holdfast.topology import Kind
from holdfast.verdict import Culprit

MOST_NAMED = 16
_TOGETHER_S = 1.0
_PCI = re.compile(r"\b((?:[0-9a-fA-F]{4,8}:)?[0-9a-fA-F]{2}:[0-9a-fA-F]{2}(?:\.[0-7])?)\b")
_PEER = re.compile(r"(?:peer|remotePeer|from|remote|to host|to|connect) \[?([\w.-]{1,128}?)(?:<\d{1,5}>|:\d{1,5}|\]| port )")
_NO_NAME = "which rank or node wrote the line (file names or prefixes that say so)"


def device_in(text: str) -> str:
    """The PCI address in a line, "" if none."""
    said = _PCI.search(text)
    return said.group(1) if said else ""


def blamed(
    root: Mark, roots: Sequence[Mark], failures: Sequence[Failure], *, nodes: int, places: Places
) -> tuple[tuple[Culprit, ...], list[str]]:
    """Who is to blame for a root, and what would be needed to name them. nodes: how many were heard."""
    meaning = root.meaning
    if meaning.domain == "storage" and nodes >= 2 and root.node:
        alike = {mark.node for mark in roots if mark.meaning.domain == "storage"}
        return ((culprit(Kind.NODE, root.node, root, 0.7),), []) if alike == {root.node} else ((), [])
    if meaning.blame == "peer":
        return _peer([mark for mark in roots if mark.meaning.id == meaning.id])
    if meaning.blame in ("", "memory"):
        return (), []
    if meaning.blame == "rank":
        ranks = _ranks(root, roots, failures, places)
        if ranks:
            return ranks, []
    first = next((failure for failure in failures if failure.first), None)
    node = node_in(root.text) if meaning.id.startswith(("slurm.", "ray.", "mpi.", "kubernetes.")) else ""
    node = node or root.node or places.node_of(root.rank) or (first.host if first and meaning.blame == "rank" else "")
    node = node or next((named for mark in roots if mark.meaning.id == meaning.id and (named := node_in(mark.text))), "")
    if node:
        return (culprit(Kind.NODE, node, root, 0.5 if meaning.ambiguous else 0.9),), []
    device = device_in(root.text) if meaning.id.startswith("kernel.") else ""
    if device:
        return (culprit(Kind.DEVICE, device, root, 0.9),), []
    return (), [_NO_NAME]


def _ranks(root: Mark, roots: Sequence[Mark], failures: Sequence[Failure], places: Places) -> tuple[Culprit, ...]:
    """The rank that says it first, and those that say the same in the same moment."""
    first = next((failure.rank for failure in failures if failure.first), -1)
    rank = root.rank if root.rank >= 0 else first
    if rank < 0:
        return ()
    same = [mark for mark in roots if mark.meaning.id == root.meaning.id and mark.rank >= 0 and mark.rank != rank]
    together = [mark.rank for mark in same if abs(mark.at - root.at) <= _TOGETHER_S]
    named = [rank, *dict.fromkeys(together)]
    if root.meaning.symptom == "hang" and len(named) > 4:
        return ()  # what most ranks say of themselves is what they all suffer from
    sure = 0.5 if root.meaning.ambiguous else 0.9
    rows = [culprit(Kind.RANK, str(r), root, sure if len(named) == 1 else min(sure, 0.6)) for r in named[:MOST_NAMED]]
    return tuple(_placed(one, root.node if one.id == str(root.rank) else "", places) for one in rows)


def _placed(one: Culprit, node: str, places: Places) -> Culprit:
    return Culprit(
        kind=one.kind, id=one.id, cause=one.cause, confidence=one.confidence, evidence=one.evidence,
        node=node or places.node_of(int(one.id)),
    )  # fmt: skip


def _peer(seen: Sequence[Mark]) -> tuple[tuple[Culprit, ...], list[str]]:
    """A link has two ends: who is named by several, or names several, is the end that is broken."""
    pairs = {(_observer(mark), match.group(1), mark.file) for mark in seen if (match := _PEER.search(mark.text))}
    named = Counter(peer for _, peer in {(who, peer) for who, peer, _ in pairs})
    namers = Counter(who for who, _ in {(who, peer) for who, peer, _ in pairs})
    for counts in (named, namers):
        if counts and (top := counts.most_common(2))[0][1] >= 2 and (len(top) == 1 or top[1][1] < top[0][1]):
            kind = Kind.RANK if counts is namers and top[0][0].isdigit() else Kind.NODE
            return (culprit(kind, top[0][0], seen[0], 0.75),), []
    if seen and seen[0].meaning.fault is Fault.PLATFORM and len(named) == 1:  # a login that is refused needs no second witness
        return (culprit(Kind.NODE, next(iter(named)), seen[0], 0.6),), []
    return (), ["port counters of both ends of the link", "logs of the other nodes"]


def _observer(mark: Mark) -> str:
    return mark.node or (str(mark.rank) if mark.rank >= 0 else mark.file)


def culprit(kind: Kind, name: str, mark: Mark, confidence: float, *, cause: str = "", node: str = "") -> Culprit:
    """A culprit by the word of one line."""
    return Culprit(
        kind=kind, id=name, cause=cause or mark.meaning.cause or mark.meaning.id, confidence=confidence,
        evidence=(f"{mark.file}:{mark.line}: {mark.text[:300]}",), node=node,
    )  # fmt: skip
