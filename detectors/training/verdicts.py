"""Turns the episodes of one or several runs into a verdict: what it means, what to do, and what would decide."""

import math
from collections.abc import Mapping, Sequence

from detectors.training.episode import DIVERGENCE, FINAL_KINDS, LOSS_KINDS, NAN, SLOW_SHIFT, SPIKE, Episode
from holdfast.faults import Action, Fault, Judgement, Symptom
from holdfast.verdict import Evidence, Json, Skipped, Verdict

LEAST_STEPS = 5
MOST_EVENTS = 1000
MOST_EVIDENCE = 40
_NEAR = 3  # steps within which several runs tell of the same batch

_MISSING: Mapping[str, tuple[str, ...]] = {
    NAN: ("the batches of the steps before it", "a check of the devices, or a replay from the last checkpoint on other nodes"),
    DIVERGENCE: (
        "whether it comes back from the last checkpoint, with the same batches and with others",
        "a check of the devices, or a replay from the last checkpoint on other nodes",
    ),
    SPIKE: ("the steps after it: whether it heals is not to be seen yet",),
    SLOW_SHIFT: ("phase times or an operation trace of every rank", "clocks, temperatures and link counters of its nodes"),
}
_SLOW_MISSING = ("phase times or an operation trace of every rank at those steps", "the logs of storage and hosts at that time")
_NAMES = {"step_s": "step time in s", "tokens_per_s": "tokens per second", "samples_per_s": "samples per second"}


def action_of(episode: Episode) -> Action:
    """Watch what may heal or has healed; what will not goes back to a checkpoint."""
    heals = episode.recovered_at is not None or episode.kind not in FINAL_KINDS
    return Action.WATCH if heals else Action.RESTART


def missing_for(kind: str) -> tuple[str, ...]:
    """What would decide about an episode of this kind that is not over."""
    return _MISSING.get(kind, _SLOW_MISSING)


def shared(runs: Mapping[str, Sequence[Episode]]) -> set[tuple[str, int]]:
    """Bumps that every run has at the same step, as (run, step): the data is the same, so it is the data."""
    if len(runs) < 2:
        return set()
    bumps = {run: [e for e in found if e.kind == SPIKE] for run, found in runs.items()}
    return {
        (run, bump.step)
        for run, own in bumps.items()
        for bump in own
        if all(any(abs(bump.step - other.step) <= _NEAR for other in others) for others in bumps.values())
    }


def judge(
    runs: Mapping[str, Sequence[Episode]], *, steps: Mapping[str, int], skipped: Sequence[Skipped], detail: Mapping[str, Json]
) -> Verdict:
    """One verdict of all runs. runs: name of a run -> its episodes; steps: name -> steps it told of."""
    of_data = shared(runs)
    rows = [(run, e) for run, found in runs.items() for e in found]
    told: dict[str, Json] = {**detail, "events": [_row(run, e, (run, e.step) in of_data) for run, e in rows[:MOST_EVENTS]]}
    if len(rows) > MOST_EVENTS:
        told["events_left_out"] = len(rows) - MOST_EVENTS
    open_ones = [e for run, e in rows if e.recovered_at is None and (run, e.step) not in of_data]
    verdict, symptom, fault, missing = _meaning([e for _, e in rows], open_ones)
    if not rows and max(steps.values(), default=0) < LEAST_STEPS:
        verdict, fault = Judgement.UNDECIDED, Fault.UNKNOWN
        missing = [f"at least {LEAST_STEPS} steps of one run" if steps else "a file with step lines"]
    if missing:
        told["missing"] = missing
    actions = {action_of(e) for _, e in rows}
    action = Action.RESTART if Action.RESTART in actions else Action.WATCH if actions else Action.NONE
    evidence = tuple(Evidence(run, e.line, sentence(e)) for run, e in rows[:MOST_EVIDENCE])
    return Verdict(
        verdict=verdict, symptom=symptom, fault=fault, action=action, evidence=evidence, detail=told, skipped=tuple(skipped)
    )


def _meaning(found: Sequence[Episode], open_ones: Sequence[Episode]) -> tuple[Judgement, Symptom, Fault, list[Json]]:
    """What it adds up to, and what would decide more. A loss is nobody's machine until something else says so."""
    if not found:
        return Judgement.HEALTHY, Symptom.NONE, Fault.NONE, []
    by_loss = [e for e in found if e.kind in LOSS_KINDS]
    symptom = Symptom.LOSS if by_loss else Symptom.SLOW
    missing = dict.fromkeys(text for e in open_ones for text in missing_for(e.kind))
    if symptom is Symptom.SLOW:
        return Judgement.UNDECIDED, symptom, Fault.UNKNOWN, [*(missing or _SLOW_MISSING)]
    if any(e.kind in LOSS_KINDS for e in open_ones):
        return Judgement.UNDECIDED, symptom, Fault.UNKNOWN, [*missing]
    if any(e.kind == NAN for e in by_loss):
        return Judgement.NOBODY, symptom, Fault.SOFTWARE, [*missing, "the batches of the steps before it"]
    return Judgement.NOBODY, symptom, Fault.WORKLOAD, [*missing, "the batches of the steps before it, were it to come back"]


def sentence(episode: Episode) -> str:
    """An episode as a person would tell it."""
    name = _NAMES.get(episode.signal, episode.signal.replace("_", " "))
    was, now = (f"{value:.5g}" if math.isfinite(value) else "no number" for value in (episode.before, episode.after))
    back = f"back at step {episode.recovered_at}" if episode.recovered_at is not None else "not back yet"
    gradient = f", gradient norm {episode.gradient:.3g} times its usual" if episode.gradient >= 2.0 else ""
    return f"{episode.kind} of the {name} from step {episode.step}: {was} -> {now}, {back}{gradient}"


def _row(run: str, episode: Episode, is_shared: bool) -> Json:
    row: dict[str, Json] = {
        "step": episode.step, "kind": episode.kind, "before": _number(episode.before), "after": _number(episode.after),
        "recovered_at": episode.recovered_at, "action": action_of(episode).value, "signal": episode.signal, "file": run,
        "line": episode.line, "attempt": episode.attempt,
    }  # fmt: skip
    if episode.gradient:
        row["gradient_times"] = _number(episode.gradient)
    return row | ({"every_run": True} if is_shared else {})


def _number(value: float) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None
