"""`holdfast diagnose slow`: operation traces and step tables on disk -> what slows the job, and who, if anybody."""

from collections.abc import Mapping, Sequence

import msgspec

from detectors.traceslow import assemble, steptable, whatif
from detectors.traceslow.trace import OPERATIONS, STEPS, Joined, TraceError, kind_of, read
from holdfast.faults import Judgement
from holdfast.ports import Input
from holdfast.verdict import Skipped, Verdict


class Slow:
    """The diagnoser `slow`. options: threshold, the slowdown from which a job is slow (1.1)."""

    kinds: Mapping[str, str] = {
        OPERATIONS: "operation trace: one row for each operation of each rank",
        STEPS: "step table: step times of ranks, with or without phases",
    }

    def recognise(self, name: str, head: bytes) -> str:
        return kind_of(head)

    def diagnose(self, inputs: Sequence[Input], options: Mapping[str, str]) -> Verdict:
        """Files of one job are joined; operations say more than step times, which are read where there are none.

        raises ValueError: the threshold is no number over 1
        """
        threshold = _threshold(options.get("threshold", ""))
        skipped: list[Skipped] = []
        joined = {OPERATIONS: Joined(), STEPS: Joined()}
        for given in inputs:
            try:
                part = read(given.path, given.name)
                joined[part.kind].add(part)
            except TraceError as error:
                skipped.append(Skipped(given.name, str(error)))
            except OSError as error:
                skipped.append(Skipped(given.name, error.strerror or str(error)))
        if joined[OPERATIONS].parts:
            skipped.extend(Skipped(p.name, "step times beside an operation trace, which says more") for p in joined[STEPS].parts)
        return msgspec.structs.replace(_judge(joined, threshold, skipped), skipped=tuple(skipped))


def _threshold(text: str) -> float:
    try:
        value = float(text or whatif.HEALTHY_BELOW)
    except ValueError:
        value = 0.0
    if not 1.0 < value < 1e6:
        raise ValueError(f"threshold is {text!r}, not a number over 1")
    return value


def _judge(joined: Mapping[str, Joined], threshold: float, skipped: list[Skipped]) -> Verdict:
    kind = OPERATIONS if joined[OPERATIONS].parts else STEPS
    parts = joined[kind].parts
    if not parts:
        return Verdict(verdict=Judgement.UNDECIDED, detail={"missing": ["an operation trace or a step table"]})
    try:
        if kind == OPERATIONS:
            return whatif.judge(assemble.operations(joined[kind]), parts[0].name, threshold=threshold)
        return steptable.judge(assemble.step_table(joined[kind]), parts[0].name, threshold=threshold)
    except TraceError as error:
        skipped.extend(Skipped(part.name, str(error)) for part in parts)
        return Verdict(verdict=Judgement.UNDECIDED, detail={"missing": ["a trace that does not contradict itself"]})
