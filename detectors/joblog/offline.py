"""`holdfast diagnose job`: why a job died, from whatever output of it was saved."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from detectors.joblog.errorfile import Failure, error_file, failures
from detectors.joblog.judge import Case, Judged, judge
from detectors.joblog.lookback import ahead, late_lines, look_back
from detectors.joblog.marks import Mark, whose
from detectors.joblog.novelty import Said, standing_out
from detectors.joblog.reading import Reading
from detectors.joblog.rules import Rules
from detectors.joblog.tracebacks import signature
from detectors.scan import blocks
from holdfast.faults import Action, Fault, Judgement, Symptom
from holdfast.ports import Input
from holdfast.verdict import Evidence, Json, Skipped, Verdict

MOST_ERROR_FILE = 4 << 20
MOST_SHOWN = 20
MOST_PLACES = 1024

_FAILED = re.compile(
    rb"Traceback \(most recent call last\)|\b\w*(?:Error|Exception): |NCCL |ProcessGroup|slurmstepd|srun: |torchrun|torch\.distributed|"
    rb"\[rank\d|\[default\d|CUDA|exitcode|Killed|deepspeed|megatron|oom-kill|Segmentation fault|Evicted|OOMKilled|gloo|HCCL|RCCL|BKCL|"
    rb"iteration +\d|\[INFO\]|\[ERROR\]|\bERROR\b|\bWARNING\b|SIGTERM|CANCELLED|"
    rb"loss['\"]?\s?[:=]|\b[Ss]tep[ :=]{1,2}\d|it/s[,\]]|s/it[,\]]|\b[Ee]poch[ :=]{1,2}\d"  # what runs may end in an error later on
)
_ATTEMPT = re.compile(r"(?:^|/)attempt_(\d{1,4})/")
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
        self._paths: dict[str, Path] = {}

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
                    self._paths[given.name] = given.path
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
        told = self._judged()
        if told.judgement is Judgement.HEALTHY and not (self.reading.steps or self.reading.ended):
            told = Judged(judgement=Judgement.UNDECIDED, missing=["a line that says how the job ended"])
        if told.judgement is Judgement.UNDECIDED and told.root is None and self.reading.ended and not self.failures:
            # it had said that it was done before it was torn down
            told = Judged(judgement=Judgement.HEALTHY, cascade=told.cascade)
        unsure = told.judgement is Judgement.UNDECIDED
        fault = Fault.UNKNOWN if unsure and told.fault is Fault.NONE else told.fault
        symptom = told.symptom if told.judgement is not Judgement.HEALTHY else Symptom.NONE
        novel, alone = self._stand_out() if unsure else ([], [])
        return Verdict(
            verdict=told.judgement, symptom=symptom, fault=fault, culprits=told.culprits,
            action=told.action if not unsure or told.action is not Action.NONE else Action.WATCH,
            evidence=_evidence(told) or tuple(Evidence(said.file, said.line, said.text) for said in novel),
            detail=self._detail(told) | standing_out(novel, alone), skipped=tuple(self.skipped),
        )  # fmt: skip

    def _judged(self) -> Judged:
        reading = self.reading
        marks = _of_last_attempt(list(reading.marks.values()))
        timed = {mark.file: self._paths[mark.file] for mark in marks if mark.at and mark.file in self._paths}
        timed |= {file: self._paths[file] for file in reading.steps if file in self._paths}
        case = Case(
            steps=reading.steps, ended=reading.ended, failures=self.failures,
            nodes=len(reading.nodes | reading.heard), places=reading.places, lengths=reading.lengths, ahead=ahead(timed),
        )  # fmt: skip
        return judge(marks, case)

    def _detail(self, told: Judged) -> dict[str, Json]:
        root = told.root
        first = next((failure for failure in self.failures if failure.first), None)
        rank = told.rank if told.rank >= 0 else (root.rank if root else -1)
        rank = rank if rank >= 0 else (first.rank if first else -1)
        node = (root.node if root else "") or self.reading.places.node_of(rank) or (first.host if first else "")
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
        places = self.reading.places.of
        if places:
            detail["places"] = {str(r): [places[r].node, places[r].device] for r in sorted(places)[:MOST_PLACES]}
        if told.missing:
            detail["missing"] = list(told.missing)
        if told.suspects:
            detail["suspects"] = list(told.suspects)
        return detail

    def _stand_out(self) -> tuple[list[Said], list[Said]]:
        """What no rule knows and the job never said before, and what one node says alone."""
        reading = self.reading
        known: dict[str, set[int]] = {}
        for mark in reading.marks.values():
            known.setdefault(mark.file, set()).update((mark.line, mark.last_line, *(line for line, _ in mark.trace)))
        healthy = look_back(self._paths, steps=reading.steps, lengths=reading.lengths)
        novel = late_lines(healthy, self._paths, steps=reading.steps, lengths=reading.lengths, known=known)
        return novel[:MOST_SHOWN], [said for said in healthy.alone() if said.line not in known.get(said.file, ())]


def _of_last_attempt(marks: list[Mark]) -> list[Mark]:
    """Without what earlier attempts say, where a launcher has kept each in a folder of its own and the last one failed too."""
    attempts = {mark.file: int(said.group(1)) for mark in marks if (said := _ATTEMPT.search(mark.file))}
    last = max((n for file, n in attempts.items()), default=0)
    of_last = [mark for mark in marks if attempts.get(mark.file, last) == last]
    return of_last if any(mark.meaning.role in ("root", "victim") for mark in of_last) else marks


def _evidence(told: Judged) -> tuple[Evidence, ...]:
    root = told.root
    if root is None:
        return ()
    others = sorted(told.others, key=lambda mark: -mark.meaning.depth)[:5]
    rows = [(root.file, root.line, root.text[:1000])]
    rows += [(root.file, line, text[:400]) for line, text in root.trace[-20:]]
    rows += [(mark.file, mark.line, mark.text[:400]) for mark in others]
    # of a machine's word the ranks' own say what it did to them
    shown = next((mark for mark in others if mark.trace), None) if not root.trace else None
    rows += [(shown.file, line, text[:400]) for line, text in shown.trace[-20:]] if shown else []
    found: dict[tuple[str, int], Evidence] = {}
    for file, line, text in rows:
        found.setdefault((file, line), Evidence(file, line, text))
    return tuple(found.values())
