"""The answer of a diagnosis: one object for every `diagnose` command and for every incident."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from holdfast.faults import Action, Fault, Judgement, Symptom
from holdfast.topology import Kind

if TYPE_CHECKING:
    Json = str | int | float | bool | None | list["Json"] | dict[str, "Json"]
else:
    Json = Any  # msgspec cannot follow a recursive alias; any value that JSON can hold is one anyway


class Evidence(msgspec.Struct, frozen=True):
    """A line a person would believe: where it stands and what it says. line 0: the file as a whole."""

    file: str
    line: int
    text: str


class Culprit(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody to blame. node: where it sits, "" where that is not known.

    confidence: 0..1
    share: part of the lost time that would come back without this culprit, 0..1, where it can be computed
    """

    kind: Kind
    id: str
    cause: str
    confidence: float
    share: float | None = None
    evidence: tuple[str, ...] = ()
    node: str = ""


class Skipped(msgspec.Struct, frozen=True):
    """An input that could not be used, and why."""

    file: str
    reason: str


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong, who is to blame, why one may believe it, and what to do.

    culprits: the most to blame first; a victim is never listed
    detail: what the command adds, JSON values only
    """

    verdict: Judgement
    symptom: Symptom = Symptom.NONE
    fault: Fault = Fault.NONE
    culprits: tuple[Culprit, ...] = ()
    action: Action = Action.NONE
    evidence: tuple[Evidence, ...] = ()
    detail: Mapping[str, Json] = {}
    skipped: tuple[Skipped, ...] = ()
