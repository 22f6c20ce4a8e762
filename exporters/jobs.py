"""The figures of jobs: what each is doing, how fast, how well, and what its interruptions have cost."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from exporters.facts import Facts, said
from exporters.figures import Sheet
from exporters.interruptions import PARTS, Interruptions
from exporters.throughput import Pace
from holdfast.events import Beats, Change, Changes, Steps, Transition
from holdfast.faults import Symptom, Verb
from holdfast.incident import LIVE, Trigger
from holdfast.topology import Kind

MOST_JOBS = 1000
# The figures of a job that has ended are shown for so long.
FORGET_S = 3600.0
STATES = ("starting", "running", "hanging", "restarting", "finished", "failed", "stopped")
_ENDED = frozenset({"finished", "failed", "stopped"})
_STILL = frozenset({Symptom.HANG, Symptom.CRASH})
_CLAIMS = frozenset({Trigger.CLAIMED, Trigger.RECURRED})
_LEARNING = {"loss": "holdfast_job_loss", "grad_norm": "holdfast_job_gradient_norm", "accuracy": "holdfast_job_accuracy"}
_MOST_RANK = 1_000_000


@dataclass
class Job:
    """A job as far as it was heard of. attempt: -1 while nobody has said; begun: the processes of this attempt are there.

    by_steps: its steps come one by one, not only with the beats; rank: the highest heard of
    hangs: when it was claimed that it stands still, by incident, until it steps again
    bad_losses: steps whose loss was no number; shown: the lost seconds shown last
    """

    facts: Facts
    heard_at: float
    state: str = "starting"
    attempt: int = -1
    begun: bool = False
    ended_at: float | None = None
    step: int = -1
    rank: int = -1
    bad_losses: int = 0
    bad_step: int = -1
    by_steps: bool = False
    pace: Pace = field(default_factory=Pace)
    account: Interruptions = field(default_factory=Interruptions)
    incidents: set[str] = field(default_factory=set)
    hangs: dict[str, float] = field(default_factory=dict)
    shown: dict[str, float] = field(default_factory=dict)

    @property
    def serves(self) -> bool:
        """Whether it is an inference service, which makes no steps."""
        return bool(self.facts.model) and self.step < 0

    @property
    def devices(self) -> float | None:
        """How many devices it has: as told, otherwise one for each rank."""
        return self.facts.devices or float(max(self.pace.ranks, self.rank + 1)) or None

    def begin(self, at: float, attempt: int) -> None:
        """An attempt's processes are there."""
        self.account.started(at)
        self.attempt, self.begun, self.ended_at = attempt, True, None
        self.state, self.bad_step = "running" if self.serves else "starting", -1
        self.pace.clear()
        self.hangs.clear()

    def stepped(self, at: float, step: int, stall_s: float | None = None) -> None:
        """A step has ended."""
        if not self.account.stepped(at, step, stall_s):
            return
        self.step, self.begun = step, True
        self.state = "running"
        self.hangs = {incident: claimed_at for incident, claimed_at in self.hangs.items() if claimed_at >= at}


class Jobs:
    """All jobs; of more than MOST_JOBS the one longest unheard is forgotten. site: facts by job, from the settings."""

    def __init__(self, site: Mapping[str, Facts] | None = None) -> None:
        self._site = dict(site or {})
        self._jobs: dict[str, Job] = {}

    def facts(self, name: str) -> Facts:
        """What is known of a job."""
        job = self._jobs.get(name)
        return job.facts if job is not None else self._site.get(name, Facts())

    # --- what comes in. latest_at: the present, so that one agent's wrong clock does not carry its job into the future

    def on_changes(self, seen: Changes, latest_at: float) -> None:
        for change in seen.changes:
            if change.target.kind is Kind.JOB:
                self._on_change(change, min(change.at, latest_at))

    def _on_change(self, change: Change, at: float) -> None:
        job = self._job(change.target.id, at)
        over = job.ended_at is not None and at > job.ended_at
        if change.attempt < job.attempt:
            if not (change.state == "started" and over):
                return  # late news of an attempt that has been replaced
            del self._jobs[change.target.id]  # the name of a job that is over, given to another one
            job = self._job(change.target.id, at)
        if change.state == "started":
            job.facts = said(change.detail, job.facts)
            if not job.begun or over or 0 <= job.attempt < change.attempt:
                job.begin(at, change.attempt)
            job.attempt = change.attempt
        elif change.state == "restarting" and change.attempt > job.attempt:
            job.account.down(at, decided=True)
            job.attempt, job.begun, job.state, job.ended_at = change.attempt, False, "restarting", None
            job.pace.clear()
        elif change.state in _ENDED and job.ended_at is None:
            if change.state == "failed":
                job.account.down(at)
            else:
                job.account.ended(at)
            job.state, job.ended_at = change.state, at
            job.pace.clear()

    def on_beats(self, seen: Beats, latest_at: float) -> None:
        if not seen.job or not seen.beats:
            return
        at = min(seen.at, latest_at)
        job = self._job(seen.job, at)
        if seen.attempt < job.attempt or (seen.attempt == job.attempt and job.ended_at is not None):
            return
        newest = max(seen.beats, key=lambda beat: beat.step)
        unannounced = not job.begun and job.state != "restarting" and newest.step < 0
        if unannounced or 0 <= job.attempt < seen.attempt:
            job.begin(at, seen.attempt)  # nobody else has said so
        job.attempt = seen.attempt
        job.rank = min(max(job.rank, *(beat.rank for beat in seen.beats)), _MOST_RANK)
        for beat in seen.beats:
            if beat.phase == "checkpoint":
                job.account.stalled(at, min(beat.phase_at or job.heard_at, at))
                break
        if newest.step >= 0 and newest.stepped_at > 0.0 and not job.by_steps:
            job.stepped(min(newest.stepped_at, latest_at), newest.step)
            job.pace.note(newest.step, newest.stepped_at)
        job.heard_at = max(job.heard_at, at)

    def on_steps(self, seen: Steps, latest_at: float) -> None:
        if not seen.job:
            return
        job = self._job(seen.job, min(seen.at, latest_at))
        job.by_steps = True
        if job.ended_at is not None:
            return  # the last words of what is over
        for told in job.pace.take(seen):
            # A loss that is no number is left out of the loss itself, where it would spoil every curve and sum; it shows as the
            # count of such steps, in the job's incident of that name and in the claims `loss_anomaly`.
            if told.bad_loss and told.step > job.bad_step:
                job.bad_losses, job.bad_step = job.bad_losses + 1, told.step
            job.stepped(min(told.ended_at, latest_at), told.step, told.stall_s)
        job.heard_at = max(job.heard_at, min(seen.at, latest_at))

    def on_transition(self, moved: Transition) -> None:
        incident = moved.incident
        job = self._jobs.get(incident.job)
        if job is None:
            return
        symptom = incident.verdict.symptom
        if incident.state in LIVE and moved.trigger in _CLAIMS:
            at = moved.at if incident.id in job.incidents else incident.at
            job.account.claimed(at, still=symptom in _STILL)
            job.incidents.add(incident.id)
            if symptom is Symptom.HANG:
                job.hangs.setdefault(incident.id, at)
        if moved.trigger is Trigger.DECIDED and incident.verb is not Verb.STOP:
            job.account.decided(moved.at if incident.decided_at is None else incident.decided_at)
        if incident.ended:
            job.incidents.discard(incident.id)
            job.hangs.pop(incident.id, None)

    # --- what is shown

    def put(self, sheet: Sheet, now: float) -> None:
        """Note the figures of every job as they stand."""
        for name in [name for name, job in self._jobs.items() if job.ended_at is not None and now - job.ended_at > FORGET_S]:
            del self._jobs[name]
        for name, job in self._jobs.items():
            hanging = bool(job.hangs) and job.state in ("starting", "running")
            sheet.put_one_of("holdfast_job_state", STATES, "hanging" if hanging else job.state, name)
            sheet.put("holdfast_job_devices", job.devices, name)
            sheet.put("holdfast_job_attempt", max(job.attempt, 0), name)
            if not job.serves:
                sheet.put("holdfast_job_step", job.step if job.step >= 0 else None, name)
                _put_speed(sheet, name, job, now)
                _put_account(sheet, name, job, now)

    def _job(self, name: str, at: float) -> Job:
        job = self._jobs.get(name)
        if job is None:
            job = self._jobs[name] = Job(self._site.get(name, Facts()), at)
            if len(self._jobs) > MOST_JOBS:
                del self._jobs[min(self._jobs, key=lambda other: self._jobs[other].heard_at)]
        return job


def _put_speed(sheet: Sheet, name: str, job: Job, now: float) -> None:
    facts, devices = job.facts, job.devices
    rate = job.pace.tokens_per_s(now, facts.tokens_per_step)
    sheet.put("holdfast_job_tokens_per_second", rate, name)
    if rate is not None and devices:
        sheet.put("holdfast_job_tokens_per_second_per_device", rate / devices, name)
        if facts.flops_per_token and facts.peak_flops_per_device:
            mfu = rate * facts.flops_per_token / (devices * facts.peak_flops_per_device)
            sheet.put("holdfast_job_mfu_ratio", mfu, name)
        if facts.tokens_per_s_reference and facts.devices_reference:
            ideal = facts.tokens_per_s_reference * devices / facts.devices_reference
            sheet.put("holdfast_job_linearity_ratio", rate / ideal, name)
    sheet.put("holdfast_job_step_seconds", job.pace.step_s(), name)
    newest = job.pace.newest()
    for signal, figure in _LEARNING.items():
        sheet.put(figure, newest.median(signal), name)
    sheet.put("holdfast_job_bad_loss_steps_total", job.bad_losses, name)
    for phase, median, most in newest.phases():
        sheet.put("holdfast_job_phase_seconds", median, name, phase, "median")
        sheet.put("holdfast_job_phase_seconds", most, name, phase, "max")


def _put_account(sheet: Sheet, name: str, job: Job, now: float) -> None:
    sheet.put("holdfast_job_effective_training_ratio", job.account.ratio(now, checkpoints=False), name)
    sheet.put("holdfast_job_effective_training_time_ratio", job.account.ratio(now, checkpoints=True), name)
    sheet.put("holdfast_job_interruptions_total", job.account.count, name)
    lost = job.account.lost_s(now)
    for part in PARTS:
        # What lasts now is counted already and may turn out a little shorter, when an agent tells late: a counter never goes back.
        job.shown[part] = max(job.shown.get(part, 0.0), lost[part])
        sheet.put("holdfast_job_lost_seconds_total", job.shown[part], name, part)
