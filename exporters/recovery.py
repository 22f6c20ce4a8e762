"""The figures of the loop itself: claims, incidents, orders and outcomes, and how long each took."""

from collections import Counter
from dataclasses import dataclass

from exporters.figures import Histogram, Sheet, catalogue
from holdfast.events import Finding, Order, Outcome, Transition
from holdfast.faults import Fault, Judgement, Perception, Severity, Verb
from holdfast.incident import Incident, State, Trigger

MOST_INCIDENTS = 10_000
RESULTS = ("done", "failed", "refused", "held")
# "watch" is no verb: nothing is ordered and the incident is left to heal.
WATCH = "watch"
UNKNOWN = "unknown"
_VERBS = (*Verb, WATCH)


@dataclass
class Known:
    """An incident that is not resolved. detect_s: how long before its claim its evidence dates the fault."""

    state: State
    detect_s: float
    diagnosed: bool = False
    counted: bool = False


class Recovery:
    """Counts what stages say; of more than MOST_INCIDENTS unresolved incidents the first known is forgotten."""

    def __init__(self) -> None:
        self._incidents: dict[str, Known] = {}
        self._findings: Counter[tuple[str, str]] = Counter()
        self._orders: Counter[str] = Counter()
        self._outcomes: Counter[tuple[str, str]] = Counter()
        self._ended: Counter[tuple[str, str]] = Counter()
        self._detection: dict[tuple[str, ...], Histogram] = {}
        self._diagnosis: dict[tuple[str, ...], Histogram] = {}
        self._recovery: dict[tuple[str, ...], Histogram] = {}

    # --- what comes in

    def on_finding(self, finding: Finding) -> None:
        if not finding.cleared:
            self._findings[finding.perception.value, finding.severity.value] += 1

    def on_order(self, order: Order) -> None:
        self._orders[order.verb.value] += 1

    def on_outcome(self, outcome: Outcome) -> None:
        # the id names the verb, but it comes from outside: what is no verb must not become a label
        verb = outcome.order.rsplit("/", 2)[-2] if outcome.order.count("/") >= 2 else ""
        result = "done" if outcome.done else "held" if outcome.held else "refused" if outcome.refused else "failed"
        self._outcomes[verb if verb in _VERBS else UNKNOWN, result] += 1

    def on_transition(self, moved: Transition) -> None:
        incident = moved.incident
        known = self._incidents.get(incident.id)
        if known is None:
            known = self._incidents[incident.id] = Known(incident.state, _detect_s(moved))
            if len(self._incidents) > MOST_INCIDENTS:
                del self._incidents[next(iter(self._incidents))]
        known.state = incident.state
        fault = incident.verdict.fault.value
        if incident.diagnosed_at is not None and not known.diagnosed:
            known.diagnosed = True
            # only now the fault has its name
            _observe(self._detection, "holdfast_detection_seconds", known.detect_s, fault)
            _observe(self._diagnosis, "holdfast_diagnosis_seconds", incident.diagnosed_at - incident.at, fault)
        if incident.ended and not known.counted:
            known.counted = True
            self._ended[fault, incident.verdict.verdict.value] += 1
        if incident.state is State.RESOLVED:
            self._on_resolved(incident, known)

    def _on_resolved(self, incident: Incident, known: Known) -> None:
        fault = incident.verdict.fault.value
        if not known.diagnosed:
            _observe(self._detection, "holdfast_detection_seconds", known.detect_s, fault)
        verb = incident.verb.value if incident.verb is not None else WATCH
        if incident.ended_at is not None:
            _observe(self._recovery, "holdfast_recovery_seconds", incident.ended_at - incident.at, fault, verb)
        del self._incidents[incident.id]

    # --- what is shown

    def put(self, sheet: Sheet) -> None:
        """Note the figures. What can be counted stands at 0 before it happens, so that the first time shows as an increase."""
        states = Counter(known.state for known in self._incidents.values())
        for state in State:
            if state is not State.RESOLVED:
                sheet.put("holdfast_incidents", states[state], state.value)
        for fault in Fault:
            for judgement in Judgement:
                sheet.put("holdfast_incidents_total", self._ended[fault.value, judgement.value], fault.value, judgement.value)
        for perception in Perception:
            for severity in Severity:
                count = self._findings[perception.value, severity.value]
                sheet.put("holdfast_findings_total", count, perception.value, severity.value)
        for verb in Verb:
            sheet.put("holdfast_orders_total", self._orders[verb.value], verb.value)
        for word in (*_VERBS, UNKNOWN):
            for result in RESULTS:
                sheet.put("holdfast_outcomes_total", self._outcomes[word, result], word, result)
        for figure, kept in (
            ("holdfast_detection_seconds", self._detection),
            ("holdfast_diagnosis_seconds", self._diagnosis),
            ("holdfast_recovery_seconds", self._recovery),
        ):
            for labels, histogram in kept.items():
                sheet.put_histogram(figure, histogram, *labels)


def _detect_s(moved: Transition) -> float:
    """From the moment the evidence dates the fault to the claim: a claim of silence says how long it has lasted."""
    silence_s = moved.incident.verdict.detail.get("silence_s")
    since_s = float(silence_s) if isinstance(silence_s, int | float) else 0.0
    late_s = moved.at - moved.incident.at if moved.trigger is Trigger.CLAIMED else 0.0
    return since_s + max(0.0, late_s)


def _observe(kept: dict[tuple[str, ...], Histogram], figure: str, seconds: float, *labels: str) -> None:
    if labels not in kept:
        kept[labels] = Histogram(catalogue()[figure].buckets)
    kept[labels].observe(seconds)
