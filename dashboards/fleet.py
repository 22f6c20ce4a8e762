"""The wall of the whole cluster: what is broken now, how fast it is found and mended, and whether the monitor sees."""

from collections.abc import Mapping, Sequence

from dashboards.layout import Row, dashboard, simulated
from dashboards.panels import (
    ANY_IS_BAD,
    ANY_IS_ODD,
    GREEN,
    ORANGE,
    RED,
    Column,
    Json,
    Look,
    Panel,
    Query,
    bars,
    heatmap,
    stat,
    table,
    timeseries,
)
from dashboards.queries import INCIDENT_COLOURS, JOB_STATES, NODE_COLOURS, coded, growth, or_zero, quantile

COUNT = Look(unit="short", decimals=0, low=0)
BAD = Look(unit="short", decimals=0, low=0, thresholds=ANY_IS_BAD)
ODD = Look(unit="short", decimals=0, low=0, thresholds=ANY_IS_ODD)
SECONDS = Look(unit="s", low=0)
SHARE = Look(unit="percentunit", decimals=2, low=0, high=1, thresholds=((None, RED), (0.9, ORANGE), (0.95, GREEN)))
NO_INCIDENT = Look(unit="s", nothing="no incident has ended yet")

OF_A_JOB = [
    {
        "title": "Job ${__value.text}",
        "url": "/d/holdfast-job?var-job=${__value.text}&var-datasource=${datasource}&${__url_time_range}",
    }
]


def fleet() -> Json:
    """Build the dashboard."""
    rows = [
        Row("Now", [*_now()]),
        Row("What is broken", [_faulty_nodes(), _jobs()]),
        Row("Nodes, incidents, repairs", [*_course()]),
        Row("How fast faults are found and mended", [*_speed()]),
        Row("Devices and network", [*_devices()]),
        Row("The monitor itself", [*_health()]),
    ]
    told = "What is broken in the cluster, how fast it is found and mended, and whether the monitor sees everything."
    return dashboard("holdfast-fleet", "Holdfast: fleet", told, rows)


def _now() -> Sequence[Panel]:
    ready = 'sum(holdfast_nodes{state="ready"}) / (sum(holdfast_nodes) > 0)'
    return (
        simulated(),
        stat("Devices", "Accelerators that have reported.", Query("sum(holdfast_devices)"), COUNT),
        stat("Nodes ready", "Share of all known nodes that may take work.", Query(ready), SHARE),
        stat(
            "Nodes needing care",
            "Nodes that a standing claim is about; at most 100 are told.",
            Query(or_zero("count(max by (node) (holdfast_node_faulty) == 1)")),
            BAD,
        ),
        stat(
            "Open incidents",
            "Incidents that are not resolved, in any state.",
            Query(or_zero("sum(holdfast_incidents)")),
            ODD,
        ),
        stat(
            "Needs a human",
            "Incidents that Holdfast has given up on or may not repair: somebody has to look.",
            Query(or_zero('sum(holdfast_incidents{state="needs_human"})')),
            BAD,
        ),
        stat(
            "Jobs hanging",
            "Jobs without any progress, not repaired yet.",
            Query(or_zero('sum(holdfast_job_state{state="hanging"})')),
            BAD,
        ),
        stat(
            "Lowest effective ratio",
            "The job that has lost the most of its time to faults.",
            Query("min(holdfast_job_effective_training_ratio)"),
            SHARE,
        ),
    )


def _faulty_nodes() -> Panel:
    return table(
        "Faulty nodes",
        "Nodes that a standing claim is about, and the fault; at most 100. Empty is good.",
        [Column(heading="Claimed", expr="max by (node, fault) (holdfast_node_faulty) == 1", look=COUNT)],
        labels=("node", "fault"),
        width=8,
        nothing="no node is faulty",
    )


def _jobs() -> Panel:
    look = Look(unit="none", words=JOB_STATES)
    columns = [
        Column(heading="State", expr=coded("holdfast_job_state", JOB_STATES, by="job"), look=look),
        Column(heading="Devices", expr="max by (job) (holdfast_job_devices)", look=COUNT),
        Column(heading="Step", expr="max by (job) (holdfast_job_step)", look=Look(unit="none", decimals=0)),
        Column(
            heading="Tokens/s",
            expr="max by (job) (holdfast_job_tokens_per_second)",
            look=Look(unit="short", decimals=1),
        ),
        Column(heading="MFU", expr="max by (job) (holdfast_job_mfu_ratio)", look=Look(unit="percentunit", decimals=1)),
        Column(heading="Effective", expr="max by (job) (holdfast_job_effective_training_ratio)", look=SHARE),
        Column(heading="Interruptions", expr="max by (job) (holdfast_job_interruptions_total)", look=ODD),
    ]
    return table(
        "Jobs",
        "Training jobs and services: what each does now, how fast, the share of its time that was not lost to faults, and how often it was"
        " interrupted since the service started. A click on a job opens its dashboard.",
        columns,
        labels=("job",),
        width=16,
        links={"job": OF_A_JOB},
        nothing="no job has reported",
    )


def _course() -> Sequence[Panel]:
    return (
        timeseries(
            "Nodes by state",
            "Ready, not ready, cordoned (kept out of scheduling) and silent (not heard) nodes.",
            [Query("sum by (state) (holdfast_nodes)", "{{state}}")],
            COUNT,
            stacked=True,
            stepped=True,
            colours=NODE_COLOURS,
        ),
        timeseries(
            "Incidents by state",
            "Incidents that are not resolved, by how far their repair has come.",
            [Query("sum by (state) (holdfast_incidents)", "{{state}}")],
            COUNT,
            stacked=True,
            stepped=True,
            colours=INCIDENT_COLOURS,
        ),
        timeseries(
            "Findings per minute",
            "Claims made by detectors, by how the fault was seen.",
            [Query("60 * sum by (perception) (rate(holdfast_findings_total[$__rate_interval]))", "{{perception}}")],
            Look(unit="short", low=0),
        ),
        bars(
            "Incidents ended, by fault",
            "What the incidents were that have ended since the service started.",
            Query("sum by (fault) (holdfast_incidents_total) > 0", "{{fault}}"),
            Look(unit="short", decimals=0, nothing="no incident has ended yet"),
            width=6,
        ),
        bars(
            "Incidents ended, by verdict",
            "Culprit: somebody is to blame and was named. Nobody: no machine is to blame. Undecided: the evidence did not"
            " reach. Since the service started.",
            Query("sum by (verdict) (holdfast_incidents_total) > 0", "{{verdict}}"),
            Look(unit="short", decimals=0, nothing="no incident has ended yet"),
            width=6,
        ),
        bars(
            "Orders given",
            "What Holdfast told the backends to do since the service started; collect only gathers evidence.",
            Query("sum by (verb) (holdfast_orders_total) > 0", "{{verb}}"),
            Look(unit="short", decimals=0, nothing="no order has been given yet"),
            width=6,
        ),
        bars(
            "Outcomes of orders",
            "What became of the orders since the service started: done, failed, refused by a guard, or held for a person.",
            Query("sum by (verb, result) (holdfast_outcomes_total) > 0", "{{verb}} {{result}}"),
            Look(unit="short", decimals=0, nothing="no order has been answered yet"),
            width=6,
        ),
    )


def _speed() -> Sequence[Panel]:
    stages = {"Detect": "holdfast_detection_seconds", "Diagnose": "holdfast_diagnosis_seconds"}
    stages |= {"Recover": "holdfast_recovery_seconds"}
    count = Column(heading="Incidents", expr="sum by (fault) (holdfast_recovery_seconds_count) > 0", look=COUNT)
    columns = [
        Column(heading=f"{stage} p{share * 100:.0f}", expr=quantile(share, name, by="fault"), look=SECONDS)
        for stage, name in stages.items()
        for share in (0.5, 0.9)
    ]
    lines = [
        Query(quantile(share, name), f"{stage.lower()} p{share * 100:.0f}")
        for stage, name in stages.items()
        for share in (0.5, 0.9, 0.99)
    ]
    return (
        table(
            "Detection, diagnosis and recovery by fault",
            "Medians and 90th percentiles of all incidents since the service started, within the bounds of the histogram's"
            " buckets. Detect: fault to claim; diagnose: claim to verdict; recover: claim to the end of the incident.",
            [*columns, count],
            labels=("fault",),
            width=14,
            height=9,
            nothing="no incident has ended yet",
        ),
        timeseries(
            "Percentiles over all faults",
            "How the percentiles of all incidents since the service started have moved; the scale is logarithmic.",
            lines,
            NO_INCIDENT,
            width=10,
            height=9,
            logarithmic=True,
        ),
        *(_fell_into(stage, name) for stage, name in stages.items()),
    )


def _fell_into(stage: str, name: str) -> Panel:
    ends = {"Detect": "a fault to its claim", "Diagnose": "a claim to its verdict", "Recover": "a claim to its end"}
    return heatmap(
        f"{stage}: seconds",
        f"Each incident in the interval in which it was counted, by the seconds from {ends[stage]}.",
        Query(growth(f"{name}_bucket", by="le", window="$__interval")),
        NO_INCIDENT,
    )


def _devices() -> Sequence[Panel]:
    power = Query('sum(holdfast_device_power_watts{stat="sum"})', "all devices")
    ports = [Query("sum by (state) (holdfast_nic_ports)", "{{state}}")]
    return (
        _spread("Device temperature", "holdfast_device_temperature_celsius", Look(unit="celsius")),
        _spread("Device power", "holdfast_device_power_watts", Look(unit="watt", low=0)),
        _spread(
            "Device utilisation", "holdfast_device_utilization_ratio", Look(unit="percentunit", low=0, high=1)
        ),
        timeseries(
            "Power of the fleet",
            "What all devices draw together; a step down is work that stands still.",
            [power],
            Look(unit="watt", low=0),
            width=12,
        ),
        timeseries(
            "Network ports",
            "Ports with and without a link, as the nodes report them.",
            ports,
            COUNT,
            width=8,
            stepped=True,
            colours={"up": GREEN, "down": RED},
        ),
        stat(
            "Ports down",
            "Network ports without a link now.",
            Query(or_zero('sum(holdfast_nic_ports{state="down"})')),
            BAD,
            width=4,
            height=8,
        ),
    )


def _spread(title: str, metric: str, look: Look) -> Panel:
    """Coldest, middle and hottest device: a fault shows as an end that leaves the middle."""
    take: Mapping[str, str] = {"max": "max", "median": "avg", "min": "min"}
    queries = [Query(f'{how}({metric}{{stat="{name}"}})', name) for name, how in take.items()]
    told = "Lowest, median and highest of all devices; one end that leaves the median is one odd device."
    return timeseries(title, told, queries, look, colours={"max": RED, "median": GREEN, "min": "blue"})


def _health() -> Sequence[Panel]:
    dropped = "holdfast_dropped_records_total"
    return (
        stat(
            "Silent sources",
            "Sources of telemetry that are not heard any more: what they watch is not seen.",
            Query(or_zero('sum(holdfast_sources{state="silent"})')),
            BAD,
            height=8,
        ),
        stat(
            "Dropped, last hour",
            "Records given up in the last hour, because an agent's spool or an exporter's queue was full.",
            Query(or_zero(growth(dropped, by="", window="1h"))),
            BAD,
            height=8,
        ),
        stat(
            "Lag",
            "How far the newest decision is behind the clock that it should follow.",
            Query("max(holdfast_lag_seconds)"),
            Look(unit="s", low=0, thresholds=((None, GREEN), (2, ORANGE), (10, RED)), nothing="not told"),
            height=8,
        ),
        timeseries(
            "Sources of telemetry",
            "Agents, exporter pages and logs: heard and silent.",
            [Query("sum by (state) (holdfast_sources)", "{{state}}")],
            COUNT,
            width=7,
            stepped=True,
            colours={"heard": GREEN, "silent": RED},
        ),
        bars(
            "Longest silence",
            "The sources that were not heard for the longest time.",
            Query("topk(10, max by (source) (holdfast_source_silence_seconds))", "{{source}}"),
            Look(unit="s", low=0, thresholds=((None, GREEN), (30, ORANGE), (120, RED))),
        ),
        timeseries(
            "Observations per second",
            "What is taken in by kind, in seconds of the clock on the wall.",
            [Query("sum by (type) (rate(holdfast_observations_total[$__rate_interval]))", "{{type}}")],
            Look(unit="cps", low=0),
            width=12,
        ),
        timeseries(
            "Records dropped",
            "Records given up in each interval, and where: at an agent or on the way to an exporter.",
            [Query(growth(dropped, by="where", window="$__interval"), "{{where}}")],
            Look(unit="short", decimals=0, low=0, nothing="none was ever dropped"),
            width=6,
        ),
        timeseries(
            "Lag over time",
            "How far the newest decision is behind the clock that it should follow.",
            [Query("max(holdfast_lag_seconds)", "lag")],
            SECONDS,
            width=6,
        ),
    )
