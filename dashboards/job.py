"""One training job, or several: does it learn, how fast, what was lost to faults, and who waits for whom."""

from collections.abc import Sequence

from dashboards.layout import Row, dashboard, simulated, variable
from dashboards.panels import GREEN, ORANGE, RED, Json, Look, Panel, Query, bars, stat, states, timeseries
from dashboards.queries import JOB_STATES, coded, finite

OF_JOBS = 'job=~"$job"'
COUNT = Look(unit="short", decimals=0, low=0)
PLAIN = Look(unit="none", decimals=0, low=0)
SPEED = Look(unit="short", low=0)
SECONDS = Look(unit="s", low=0)
LOSS = Look(unit="none", decimals=3, nothing="no number")
SHARE = Look(unit="percentunit", decimals=2, low=0, high=1, thresholds=((None, RED), (0.9, ORANGE), (0.95, GREEN)))
RATIO = Look(unit="percentunit", decimals=1, low=0)


def job() -> Json:
    """Build the dashboard."""
    rows = [
        Row("Now", [*_now()]),
        Row("State", [_timeline()]),
        Row("Does it learn", [*_learning()]),
        Row("How fast", [*_speed()]),
        Row("What faults have cost", [*_losses()]),
        Row("Who waits for whom", [*_phases()]),
    ]
    told = "Training jobs: loss, throughput, MFU, effective training ratio, lost time by part, and who waits for whom."
    choice = variable("job", "Job", of="holdfast_job_state")
    return dashboard("holdfast-job", "Holdfast: training jobs", told, rows, variables=[choice])


def _of(metric: str) -> str:
    return f"max by (job) ({metric}{{{OF_JOBS}}})"


def _stat(title: str, metric: str, look: Look, description: str) -> Panel:
    return stat(title, description, Query(_of(metric), "{{job}}"), look)


def _line(title: str, metric: str, look: Look, description: str) -> Panel:
    return timeseries(title, description, [Query(_of(metric), "{{job}}")], look)


def _now() -> Sequence[Panel]:
    state = Query(coded("holdfast_job_state", JOB_STATES, by="job", matchers=OF_JOBS), "{{job}}")
    return (
        simulated(),
        stat("State", "What the job does now.", state, Look(unit="none", words=JOB_STATES, nothing="no such job")),
        _stat("Devices", "holdfast_job_devices", COUNT, "Devices the job runs on."),
        _stat("Step", "holdfast_job_step", PLAIN, "Last completed step."),
        stat("Loss now", "Loss as the job reports it.", Query(finite(_of("holdfast_job_loss")), "{{job}}"), LOSS),
        _stat("Step time", "holdfast_job_step_seconds", SECONDS, "Seconds of a step, the median of the latest ones."),
        _stat("Tokens per second", "holdfast_job_tokens_per_second", SPEED, "Training throughput of the job."),
        _stat(
            "Tokens per second and device",
            "holdfast_job_tokens_per_second_per_device",
            SPEED,
            "Training throughput of each device.",
        ),
        _stat("MFU", "holdfast_job_mfu_ratio", RATIO, "Model FLOP/s achieved over the peak FLOP/s of the devices."),
        _stat(
            "Linearity",
            "holdfast_job_linearity_ratio",
            RATIO,
            "Throughput over the reference throughput scaled to this many devices; 100 % loses nothing by size.",
        ),
        _stat(
            "Effective training ratio",
            "holdfast_job_effective_training_ratio",
            SHARE,
            "Share of the time that was not lost to faults; checkpoints are not counted as lost.",
        ),
        _stat(
            "ETTR",
            "holdfast_job_effective_training_time_ratio",
            SHARE,
            "Effective training time ratio: the same with checkpoint stalls counted as lost too.",
        ),
        _stat(
            "Interruptions",
            "holdfast_job_interruptions_total",
            PLAIN,
            "How often a fault has interrupted the job since the service started.",
        ),
        _stat("Attempt", "holdfast_job_attempt", PLAIN, "How often the job has been started again."),
        stat(
            "Lost per interruption",
            "Mean time that one interruption has cost since the service started, from the fault to the first new step.",
            Query(
                f'sum by (job) (holdfast_job_lost_seconds_total{{{OF_JOBS}, part!="checkpoint"}})'
                f" / (sum by (job) (holdfast_job_interruptions_total{{{OF_JOBS}}}) > 0)",
                "{{job}}",
            ),
            Look(unit="s", low=0, decimals=0, nothing="never interrupted"),
        ),
        stat(
            "Lost to checkpoints",
            "Time in which the job has stood still for its checkpoints since the service started.",
            Query(f'sum by (job) (holdfast_job_lost_seconds_total{{{OF_JOBS}, part="checkpoint"}})', "{{job}}"),
            Look(unit="s", low=0, decimals=0, nothing="none seen"),
        ),
    )


def _timeline() -> Panel:
    return states(
        "State of the jobs",
        "What each job did when: starting, running, restarting, hanging, failed, stopped or finished.",
        Query(coded("holdfast_job_state", JOB_STATES, by="job", matchers=OF_JOBS), "{{job}}"),
        JOB_STATES,
    )


def _learning() -> Sequence[Panel]:
    reported = [
        ("Loss", "holdfast_job_loss", "Loss as the job reports it; a gap while the job runs is a loss that is no number."),
        ("Gradient norm", "holdfast_job_gradient_norm", "Gradient norm as the job reports it; it often moves before the loss."),
    ]  # fmt: skip
    look = Look(unit="none", nothing="no job reports it")
    lines = [
        timeseries(title, description, [Query(finite(_of(metric)), "{{job}}")], look)
        for title, metric, description in reported
    ]
    bad = timeseries(
        "Steps with a bad loss",
        "Steps whose loss was not a number or infinite, since the service started; a step up is a gap in the loss.",
        [Query(_of("holdfast_job_bad_loss_steps_total"), "{{job}}")],
        PLAIN,
        stepped=True,
    )
    return [*lines, bad]


def _speed() -> Sequence[Panel]:
    return (
        _line(
            "Throughput",
            "holdfast_job_tokens_per_second",
            SPEED,
            "Tokens per second of each job.",
        ),
        _line(
            "Throughput of each device",
            "holdfast_job_tokens_per_second_per_device",
            SPEED,
            "Tokens per second and device, so that jobs of different size can be compared.",
        ),
        _line(
            "Seconds per step",
            "holdfast_job_step_seconds",
            SECONDS,
            "The median of the latest steps; in a synchronous job the slowest rank sets it.",
        ),
        _line(
            "MFU over time",
            "holdfast_job_mfu_ratio",
            RATIO,
            "Model FLOPs utilisation: model FLOP/s achieved over the peak FLOP/s of the devices.",
        ),
        _line(
            "Linearity over time",
            "holdfast_job_linearity_ratio",
            RATIO,
            "Throughput over the reference throughput scaled to this many devices.",
        ),
        _line(
            "Steps completed",
            "holdfast_job_step",
            PLAIN,
            "Last completed step; a fall is a restart from a checkpoint, and the way back up is work done twice.",
        ),
    )


def _losses() -> Sequence[Panel]:
    lost = f"sum by (part) (holdfast_job_lost_seconds_total{{{OF_JOBS}}})"
    interruptions = f"sum by (job) (holdfast_job_interruptions_total{{{OF_JOBS}}})"
    parts = "Detect, decide, schedule, initialise, recompute lost steps, and checkpoints."
    return (
        timeseries(
            "Effective training ratio and ETTR",
            "Share of the time since the job began that was not lost to faults; ETTR counts checkpoint stalls as lost too.",
            [
                Query(_of("holdfast_job_effective_training_ratio"), "{{job}} effective"),
                Query(_of("holdfast_job_effective_training_time_ratio"), "{{job}} ETTR"),
            ],
            Look(unit="percentunit", high=1),
            width=12,
        ),
        timeseries(
            "Lost time by part",
            f"Time lost since the service started, all chosen jobs together. {parts}",
            [Query(lost, "{{part}}")],
            SECONDS,
            width=12,
            stacked=True,
            stepped=True,
        ),
        bars(
            "Where the time went",
            f"The same now, the parts side by side, since the service started. {parts}",
            Query(f"{lost} > 0", "{{part}}"),
            Look(unit="s", nothing="nothing was lost yet"),
            width=12,
        ),
        timeseries(
            "Interruptions over time",
            "How often a fault has interrupted each job since the service started.",
            [Query(interruptions, "{{job}}")],
            PLAIN,
            width=12,
            stepped=True,
        ),
    )


def _phases() -> Sequence[Panel]:
    median = f'max by (job, phase) (holdfast_job_phase_seconds{{{OF_JOBS}, stat="median"}})'
    slowest = f'max by (job, phase) (holdfast_job_phase_seconds{{{OF_JOBS}, stat="max"}})'
    look = Look(unit="s", low=0, nothing="no job reports phases")
    return (
        timeseries(
            "Phases, the median rank",
            "Seconds of each phase of the latest step at the median rank, stacked: what a usual rank does with its time.",
            [Query(median, "{{job}} {{phase}}")],
            look,
            stacked=True,
        ),
        timeseries(
            "Phases, the slowest rank",
            "Seconds of each phase of the latest step at its slowest rank: the one that the others wait for.",
            [Query(slowest, "{{job}} {{phase}}")],
            look,
        ),
        timeseries(
            "The slowest rank over the median",
            "How much longer the slowest rank takes for a phase; 100 % is nobody waits. In phases of communication a long"
            " time is waiting, in phases of work it is the culprit.",
            [Query(f"{slowest} / ({median} > 0)", "{{job}} {{phase}}")],
            Look(unit="percentunit", nothing="no job reports phases"),
        ),
    )
