"""The Prometheus rules: figures worth keeping for long, and the alerts that somebody should hear of."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dashboards.queries import quantile

RUNBOOKS = "docs/runbooks.md"
# Said before every summary, so that nobody runs for a cluster that is not there.
IF_SIMULATED = '{{ with query "max(holdfast_simulated) == 1" }}SIMULATED: {{ end }}'


@dataclass(frozen=True, kw_only=True)
class Record:
    """A figure that is computed once and kept under a name of its own, `level:metric:operation`."""

    name: str
    expr: str


@dataclass(frozen=True, kw_only=True)
class Alert:
    """Something that somebody should hear of.

    held: how long it must be so before it is said; kept: how long it is still said after it is over, against flapping
    """

    name: str
    expr: str
    severity: str
    held: str
    kept: str
    summary: str
    description: str

    @property
    def runbook(self) -> str:
        """The page and the anchor of its paragraph."""
        return f"{RUNBOOKS}#{self.name.lower()}"


RECORDS = (
    Record(
        name="cluster:holdfast_nodes_ready:ratio",
        expr='sum(holdfast_nodes{state="ready"}) / (sum(holdfast_nodes) > 0)',
    ),
    Record(name="cluster:holdfast_job_tokens_per_second:sum", expr="sum(holdfast_job_tokens_per_second)"),
    Record(name="job:holdfast_job_lost_seconds:sum", expr="sum by (job) (holdfast_job_lost_seconds_total)"),
    Record(name="fault:holdfast_detection_seconds:p90", expr=quantile(0.9, "holdfast_detection_seconds", by="fault")),
    Record(name="fault:holdfast_diagnosis_seconds:p90", expr=quantile(0.9, "holdfast_diagnosis_seconds", by="fault")),
    Record(name="fault:holdfast_recovery_seconds:p90", expr=quantile(0.9, "holdfast_recovery_seconds", by="fault")),
)

OF_INCIDENTS = (
    Alert(
        name="HoldfastIncidentNeedsHuman",
        expr='sum(holdfast_incidents{state="needs_human"}) > 0',
        severity="critical",
        held="30s",
        kept="1m",
        summary="{{ $value }} incident(s) need a human",
        description="Holdfast has no repair left that it may try, or a guard refused it. Nothing more happens by itself.",
    ),
)

OF_JOBS = (
    Alert(
        name="HoldfastJobHanging",
        expr='max by (job) (holdfast_job_state{state="hanging"}) == 1',
        severity="critical",
        held="2m",
        kept="1m",
        summary="job {{ $labels.job }} has been hanging for 2 minutes",
        description="No rank of {{ $labels.job }} makes progress, and it has not been repaired in the time it usually takes.",
    ),
    Alert(
        name="HoldfastJobEffectiveRatioLow",
        expr=(
            "min by (job) (holdfast_job_effective_training_ratio) < 0.9\n"
            'and on (job) max by (job) (holdfast_job_state{state=~"running|hanging|restarting"}) == 1'
        ),
        severity="warning",
        held="15m",
        kept="10m",
        summary="job {{ $labels.job }} has trained for only {{ $value | humanizePercentage }} of its time",
        description="{{ $labels.job }} has lost more than a tenth of its time to faults.",
    ),
)

OF_THE_CLUSTER = (
    Alert(
        name="HoldfastNodeNotReady",
        expr='sum(holdfast_nodes{state="not_ready"}) > 0',
        severity="warning",
        held="5m",
        kept="5m",
        summary="{{ $value }} node(s) are not ready",
        description=(
            "Standing claims: "
            '{{ range query "topk(5, max by (node, fault) (holdfast_node_faulty) == 1)" }}'
            "{{ .Labels.node }} ({{ .Labels.fault }}) {{ else }}none {{ end }}"
        ),
    ),
    Alert(
        name="HoldfastPortDown",
        expr='sum(holdfast_nic_ports{state="down"}) > 0',
        severity="warning",
        held="4m",
        kept="5m",
        summary="{{ $value }} network port(s) have been down for 4 minutes",
        description="Ports without a link take bandwidth from every job that spans their nodes, or stop it.",
    ),
)

OF_INFERENCE = (
    Alert(
        name="HoldfastEngineStalled",
        expr='max by (service, instance) (holdfast_serving_engine_state{state="stalled"}) == 1',
        severity="critical",
        held="1m",
        kept="2m",
        summary="engine {{ $labels.instance }} of {{ $labels.service }} makes no tokens",
        description="It has requests running and has made no token for a minute or more; whoever is routed to it waits.",
    ),
)

OF_THE_MONITOR = (
    Alert(
        name="HoldfastAbsent",
        expr="absent(holdfast_simulated)",
        severity="critical",
        held="1m",
        kept="1m",
        summary="Holdfast is not heard",
        description="Prometheus has no figure of Holdfast: nobody watches the jobs, and no other alert of it can fire.",
    ),
    Alert(
        name="HoldfastSourceSilent",
        expr='sum(holdfast_sources{state="silent"}) > 0',
        severity="warning",
        held="2m",
        kept="5m",
        summary="{{ $value }} source(s) of telemetry are silent",
        description=(
            "What they watch is not seen. Longest silent: "
            '{{ range query "topk(3, max by (source) (holdfast_source_silence_seconds))" }}'
            "{{ .Labels.source }} ({{ .Value | humanizeDuration }}) {{ else }}not told {{ end }}"
        ),
    ),
    Alert(
        name="HoldfastDroppedRecords",
        # the second half sees a series whose first record was dropped: `increase` never does
        expr=(
            "sum by (where) (increase(holdfast_dropped_records_total[15m])) > 0\n"
            "or sum by (where) (holdfast_dropped_records_total unless holdfast_dropped_records_total offset 15m) > 0"
        ),
        severity="warning",
        held="0s",
        kept="10m",
        summary="records were dropped: {{ $labels.where }}",
        description="A queue was full and records were given up: a decision may have been made without them.",
    ),
    Alert(
        name="HoldfastLagging",
        expr="max(holdfast_lag_seconds) > 10",
        severity="warning",
        held="2m",
        kept="5m",
        summary="Holdfast is {{ $value | humanizeDuration }} behind",
        description="Faults are found later by as much: more comes in than one process can decide on.",
    ),
)

GROUPS: dict[str, Sequence[Record | Alert]] = {
    "holdfast-figures.rules": RECORDS,
    "holdfast-incidents.rules": OF_INCIDENTS,
    "holdfast-jobs.rules": OF_JOBS,
    "holdfast-cluster.rules": OF_THE_CLUSTER,
    "holdfast-inference.rules": OF_INFERENCE,
    "holdfast-monitor.rules": OF_THE_MONITOR,
}


def rules() -> str:
    """The rules file, in YAML."""
    return "\n".join(["# Written by `make dashboards` from dashboards/rules.py.", "groups:", *_groups(), ""])


def _groups() -> Iterator[str]:
    for name, members in GROUPS.items():
        yield f"  - name: {name}"
        yield "    rules:"
        for rule in members:
            yield from _record(rule) if isinstance(rule, Record) else _alert(rule)


def _record(rule: Record) -> Iterator[str]:
    yield f"      - record: {rule.name}"
    yield from _expression(rule.expr)


def _alert(rule: Alert) -> Iterator[str]:
    yield f"      - alert: {rule.name}"
    yield from _expression(rule.expr)
    yield f"        for: {rule.held}"
    yield f"        keep_firing_for: {rule.kept}"
    yield "        labels:"
    yield f"          severity: {rule.severity}"
    yield "        annotations:"
    yield f"          summary: {_quoted(IF_SIMULATED + rule.summary)}"
    yield f"          description: {_quoted(rule.description.strip())}"
    yield f"          runbook_url: {_quoted(rule.runbook)}"


def _expression(expr: str) -> Iterator[str]:
    yield "        expr: |-"
    yield from (f"          {line}" for line in expr.splitlines())


def _quoted(text: str) -> str:
    """A string of JSON is a string of YAML."""
    return json.dumps(text, ensure_ascii=False)
