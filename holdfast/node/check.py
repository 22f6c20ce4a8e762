"""`holdfast check`: the agent's state as an exit status for health checks; with Slurm, the drain of a sick node."""

import os
import socket
import subprocess
from pathlib import Path
from typing import NamedTuple

from holdfast.node.state import NodeState, StateError, load

OK, WARNING, CRITICAL = 0, 1, 2
STALE_S = 120.0
_ANSWER_S = 5.0
_BAD = ("fatal", "error")
_MOST_REASON = 200


class Answer(NamedTuple):
    """status: as Nagios has it; text: one line."""

    status: int
    text: str


def check(path: Path, now: float) -> Answer:
    """What is known of the node: no state, or an old one, is a warning, since nobody looks then."""
    try:
        known = load(path)
    except StateError as error:
        return Answer(WARNING, f"WARNING: nobody looks at this node: {error}")
    return answer_of(known, now)


def answer_of(known: NodeState, now: float) -> Answer:
    """The worst claim decides; the line names the first few."""
    age_s = now - known.at
    if age_s > STALE_S:
        return Answer(WARNING, f"WARNING: the agent of {known.node} has said nothing for {age_s:.0f} s")
    bad = [one for one in known.standing if one.severity in _BAD]
    if bad:
        return Answer(CRITICAL, f"CRITICAL: {'; '.join(f'{one.check} {one.text}' for one in bad[:4])}"[:1000])
    if known.standing or known.sources_down:
        told = [f"{one.check} {one.text}" for one in known.standing] + [f"{name} cannot be read" for name in known.sources_down]
        return Answer(WARNING, f"WARNING: {'; '.join(told[:4])}"[:1000])
    return Answer(OK, f"OK: nothing is wrong with {known.node}")


def drain(path: Path, now: float, *, scontrol: str = "scontrol") -> str:
    """Drain this node where that is called for and allowed; what was done, or why nothing was, in a sentence.

    Only for a claim that asks for it, only where the mode is not `observe`, never over another's drain; the reason begins with
    "holdfast:", by which only our own drains are ever taken back.
    """
    try:
        known = load(path)
    except StateError as error:
        return f"not drained: {error}"
    bad = [one for one in known.standing if one.severity in _BAD and one.node_action != "none"]
    if answer_of(known, now).status != CRITICAL or not bad:
        return "not drained: nothing calls for it"
    if known.mode == "observe":
        return "not drained: the mode is observe"
    name = os.environ.get("SLURMD_NODENAME") or known.node or socket.gethostname()
    shown = _scontrol([scontrol, "--oneliner", "show", "node", name])
    if shown is None:
        return "not drained: scontrol does not answer"
    if "DRAIN" in shown.partition("State=")[2].partition(" ")[0]:
        return "not drained: it is already"
    reason = f"holdfast: [node_problem] {' '.join(dict.fromkeys(one.check.replace('.', '_') for one in bad))}"[:_MOST_REASON]
    done = _scontrol([scontrol, "update", f"NodeName={name}", "State=DRAIN", f"Reason={reason}"])
    return f"drained: {reason}" if done is not None else "not drained: scontrol refused"


def _scontrol(command: list[str]) -> str | None:
    """What the command says, None if it fails or takes too long."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_ANSWER_S, stdin=subprocess.DEVNULL, check=False)
    except (OSError, subprocess.TimeoutExpired, ValueError):
        return None
    return done.stdout if done.returncode == 0 else None
