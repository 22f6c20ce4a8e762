"""`holdfast diagnose job`: why a job died, from whatever output of it was saved."""

import re
from collections import deque
from collections.abc import Mapping, Sequence

from detectors.joblog.errorfile import Failure, error_file, failures
from detectors.joblog.judge import Case, Judged, judge
from detectors.joblog.marks import Mark, whose
from detectors.joblog.novelty import novel
from detectors.joblog.reading import Reading
from detectors.joblog.rules import Rules
from detectors.joblog.tracebacks import signature
from detectors.scan import blocks
from holdfast.faults import Action, Fault, Judgement, Symptom
from holdfast.ports import Input
from holdfast.verdict import Evidence, Json, Skipped, Verdict

MOST_ERROR_FILE = 4 << 20
_FIRST_LINES, _LAST_LINES = 2000, 400

_FAILED = re.compile(
    rb"Traceback \(most recent call last\)|\b\w*(?:Error|Exception): |NCCL |ProcessGroup|slurmstepd|srun: |torchrun|torch\.distributed|"
    rb"\[rank\d|\[default\d|CUDA|exitcode|Killed|deepspeed|megatron|oom-kill|Segmentation fault|Evicted|OOMKilled|gloo|HCCL|RCCL|BKCL|"
    rb"iteration +\d|\[INFO\]|\[ERROR\]|\bERROR\b|\bWARNING\b|SIGTERM|CANCELLED"
)
_BINARY = re.compile(rb"\x00|^PAR1|^\x80[\x02-\x05]|^PK\x03\x04")


class Job:
    """Joins rank output, launcher output, torchrun error files, scheduler lines and kernel logs into one verdict."""

    kinds: Mapping[str, str] = {
        "job.error_file": "torchrun error file (TORCHELASTIC_ERROR_FILE)",
        "job.log": "output of a job: ranks, launcher, scheduler",
    }

    def recognise(self, name: str, head: bytes) -> str:
        if not head or _BINARY.search(head[:4096]):
            return ""
        if (
            head[:1] == b"{"
            and b'"message"' in head
            and (b'"py_callstack"' in head or b'"timestamp"' in head)
            and head.count(b"\n") < 3
        ):
            return "job.error_file"
        return "job.log" if _FAILED.search(head) else ""

    def diagnose(self, inputs: Sequence[Input], options: Mapping[str, str]) -> Verdict:
        """options: `rules`, a file of one's own rules.

        raises RulesError: that file is not one
        """
        case = _Case(Rules.read(options.get("rules", "")))
        for given in inputs:
            case.read(given)
        return case.verdict()


class _Case:
    """What has been read of one job."""

    def __init__(self, rules: Rules) -> None:
        self.reading = Reading(rules)
        self.failures: list[Failure] = []
        self.skipped: list[Skipped] = []
        self._head: dict[str, list[str]] = {}
        self._tail: dict[str, deque[tuple[int, str]]] = {}

    def read(self, given: Input) -> None:
        try:
            with given.path.open("rb") as file:
                head = file.read(65_536)
                file.seek(0)
                if not head:
                    self.skipped.append(Skipped(given.name, "empty"))
                elif _BINARY.search(head[:4096]):
                    self.skipped.append(Skipped(given.name, "not text"))
                elif Job().recognise(given.name, head) == "job.error_file":
                    self._error_file(given.name, file.read(MOST_ERROR_FILE))
                else:
                    for first, block in blocks(file):
                        self._block(given.name, first, block)
                    self.reading.close(given.name)
        except OSError as error:
            self.skipped.append(Skipped(given.name, error.strerror or str(error)))

    def _block(self, name: str, first: int, block: bytes) -> None:
        self.reading.feed(name, first, block, whose(name))
        at = block.find(b"(first observed failure)")
        if at >= 0:
            start = max(block.rfind(b"FAILED", 0, at), at - 65_536, 0)
            lines = block[start : at + 8192].decode("utf-8", "replace").splitlines()
            number = first + block.count(b"\n", 0, start)
            self.failures.extend(failures(list(enumerate(lines, number))))
        if name not in self._head:
            self._head[name] = block[:200_000].decode("utf-8", "replace").splitlines()[:_FIRST_LINES]
        start = max(0, len(block) - 100_000)
        lines = block[start:].decode("utf-8", "replace").splitlines()
        last = first + block.count(b"\n") - (block.endswith(b"\n"))
        self._tail.setdefault(name, deque(maxlen=_LAST_LINES)).extend(
            (last - len(lines) + 1 + n, text) for n, text in enumerate(lines) if last - len(lines) + 1 + n >= first
        )

    def _error_file(self, name: str, data: bytes) -> None:
        try:
            said = error_file(data)
        except ValueError as error:
            self.skipped.append(Skipped(name, str(error)))
            return
        owner, raised = whose(name), said.reader.root() if said.reader else None
        rules = self.reading.rules
        kind = raised.kind if raised else said.text.split(":", 1)[0]
        text = raised.text if raised else said.text
        mark = Mark(
            rules.of_exception(kind, text), name, 1, text, owner.rank, owner.local, owner.node, said.at,
            signature(raised) if raised else text[:300], raised.place if raised else "",
            trace=tuple(said.reader.lines[-60:]) if said.reader else (),
        )  # fmt: skip
        self.reading.marks[(name, mark.meaning.id, "", mark.signature)] = mark

    def verdict(self) -> Verdict:
        marks = list(self.reading.marks.values())
        reading = self.reading
        told = judge(
            marks,
            Case(
                steps=reading.steps, ended=reading.ended, failures=self.failures, nodes=len(reading.nodes), places=reading.places,
                lengths=reading.lengths,
            ),
        )  # fmt: skip
        if told.judgement is Judgement.HEALTHY and not (self.reading.steps or self.reading.ended):
            told = Judged(judgement=Judgement.UNDECIDED, missing=["a line that says how the job ended"])
        if told.judgement is Judgement.UNDECIDED and told.root is None and self.reading.ended and not self.failures:
            told = Judged(
                judgement=Judgement.HEALTHY, cascade=told.cascade
            )  # it had said that it was done before it was torn down
        unsure = told.judgement is Judgement.UNDECIDED
        fault = Fault.UNKNOWN if unsure and told.fault is Fault.NONE else told.fault
        symptom = told.symptom if told.judgement is not Judgement.HEALTHY else Symptom.NONE
        return Verdict(
            verdict=told.judgement, symptom=symptom, fault=fault, culprits=told.culprits,
            action=told.action if not unsure or told.action is not Action.NONE else Action.WATCH,
            evidence=_evidence(told) or (tuple(self._novel()) if unsure else ()),
            detail=self._detail(told), skipped=tuple(self.skipped),
        )  # fmt: skip

    def _detail(self, told: Judged) -> dict[str, Json]:
        root = told.root
        first = next((failure for failure in self.failures if failure.first), None)
        rank = root.rank if root and root.rank >= 0 else (first.rank if first else -1)
        node = (root.node if root else "") or (first.host if first else "")
        detail: dict[str, Json] = {
            "domain": told.domain,
            "root": {"file": root.file, "line": root.line, "text": root.text[:1000]} if root else None,
            "cascade": told.cascade,
            "rank": rank if rank >= 0 else None,
            "node": node or None,
            "check": root.meaning.id if root else None,
            "signature": root.signature if root else None,
            "confidence": told.confidence,
            "lines": self.reading.lines,
        }
        if told.missing:
            detail["missing"] = list(told.missing)
        if told.suspects:
            detail["suspects"] = list(told.suspects)
        if told.judgement is Judgement.UNDECIDED:
            detail["novel"] = [f"{line.file}:{line.line}: {line.text}" for line in self._novel()]
        return detail

    def _novel(self) -> list[Evidence]:
        """The last lines of a file that its own beginning, and the other files, have nothing like."""
        found: list[Evidence] = []
        for name, tail in list(self._tail.items())[:64]:
            others = [line for other, head in list(self._head.items())[:64] if other != name for line in head[-200:]]
            early = [line for n, line in enumerate(self._head.get(name, []), 1) if n < tail[0][0]]
            late = list(tail)[-60:] if early or others else list(tail)[-20:]
            found.extend(Evidence(name, line, text[:500]) for line, text in novel([*early, *others], late, most=5))
        return found[:20]


def _evidence(told: Judged) -> tuple[Evidence, ...]:
    root = told.root
    if root is None:
        return ()
    own = [Evidence(root.file, root.line, root.text[:1000])]
    trace = [Evidence(root.file, line, text[:400]) for line, text in root.trace[-20:] if line != root.line]
    others = [
        Evidence(mark.file, mark.line, mark.text[:400])
        for mark in sorted(told.others, key=lambda m: -m.meaning.depth)[:5]
    ]
    return (*own, *trace, *others)
