"""Every kind of story by its name, and how one is made."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial

from holdfast.faults import Action, Fault
from holdfast.topology import Kind
from simulator.stories import jobs, machines
from simulator.stories.rows import Tale, rows
from simulator.stories.story import Story, Truth


@dataclass(frozen=True)
class StoryKind:
    """make: (job, rank, or number of the engine) -> the story; serves: it is about a service; staged: about pipeline stages"""

    name: str
    truth: Truth
    make: Callable[..., Story]
    serves: bool = False
    staged: bool = False

    def of(self, job: str, place: int) -> Story:
        """The story at one place. place: a rank, or the number of an engine."""
        where = {"engine": place} if self.serves else {"rank": place}
        return self.make(name=self.name, truth=self.truth, job=job, **where)


_LINK = Truth(fault=Fault.FABRIC, blames=Kind.LINK, verb=Action.WATCH, others=(Action.RESUBMIT, Action.REPLACE))
_CORRUPT = Truth(fault=Fault.SDC, blames=None, verb=Action.RESTART, others=(Action.WATCH,), explicit=False)
_UNEVEN = Truth(fault=Fault.WORKLOAD, blames=None, verb=Action.WATCH, others=(Action.NONE,), explicit=False)
_NOTHING = Truth(fault=Fault.NONE, blames=None, verb=Action.NONE, others=(Action.WATCH,), explicit=False)
_WATCHED = Truth(fault=Fault.PLATFORM, blames=None, verb=Action.WATCH)
_TOLD: tuple[tuple[str, Callable[..., Story], Truth], ...] = (
    ("rank_stopped", machines.RankStopped, Truth(fault=Fault.HOST, blames=Kind.RANK, verb=Action.RESTART, others=(Action.REPLACE,))),
    ("device_hang", machines.DeviceHang, Truth(fault=Fault.GPU_HW, blames=Kind.RANK, others=(Action.RESTART,), explicit=False)),
    (
        "device_stall_before", partial(machines.DeviceHang, before=True),
        Truth(fault=Fault.GPU_HW, blames=Kind.RANK, others=(Action.RESTART,), explicit=False),
    ),
    ("nic_flap", machines.NicFlap, Truth(fault=Fault.NIC, blames=Kind.NIC)),
    ("kernel_panic", machines.KernelPanic, Truth(fault=Fault.HOST)),
    ("sudden_reboot", machines.SuddenReboot, Truth(fault=Fault.HOST, others=(Action.RESTART,))),
    ("rack_power", machines.RackPower, Truth(fault=Fault.HOST, others=(Action.RESUBMIT,))),
    ("leaf_loss", machines.LeafLoss, _LINK),
    ("leaf_down", machines.LeafDown, _LINK),
    ("pod_deleted", jobs.PodDeleted, Truth(fault=Fault.PLATFORM, blames=None, verb=Action.RESUBMIT)),
    ("heartbeat_lost", partial(jobs.Telemetry, what="silent", value=True, lasting_s=60.0), _WATCHED),
    ("agent_crash", jobs.AgentCrash, _WATCHED),
    ("exporter_down", partial(jobs.Telemetry, what="scraped", value=False, lasting_s=240.0), _WATCHED),
    ("telemetry_late", partial(jobs.Telemetry, what="lag_s", value=8.0, lasting_s=180.0), _NOTHING),
    ("clock_skew", partial(jobs.Telemetry, what="skew_s", value=3.0, lasting_s=300.0), _NOTHING),
    ("loss_nan", jobs.LossNan, Truth(fault=Fault.UNKNOWN, blames=None, verb=Action.RESTART)),
    ("silent_corruption", jobs.SilentCorruption, _CORRUPT),
    ("data_bump", jobs.DataBump, _NOTHING),
    ("user_error", jobs.UserError, Truth(fault=Fault.USER_CODE, blames=None, verb=Action.STOP)),
    ("choreography", jobs.Choreography, Truth(fault=Fault.SOFTWARE, blames=None, verb=Action.RESTART, explicit=False)),
    ("time_limit", jobs.TimeLimit, Truth(fault=Fault.SCHEDULER, blames=None, verb=Action.WATCH, others=(Action.NONE,))),
    ("heavy_last_stage", jobs.HeavyLastStage, _UNEVEN),
    ("maintenance", jobs.Maintenance, _NOTHING),
    ("bad_rollout", jobs.BadRollout, Truth(fault=Fault.SOFTWARE, blames=None, verb=Action.RESTART, others=(Action.STOP,))),
)  # fmt: skip
_SERVED: tuple[tuple[str, Callable[..., Story], Truth], ...] = (
    ("engine_stall", jobs.EngineStory, Truth(fault=Fault.SERVING, blames=Kind.INSTANCE, verb=Action.RESTART)),
)


@cache
def kinds() -> Mapping[str, StoryKind]:
    """All of them."""
    found = {row.name: StoryKind(row.name, row.truth, partial(Tale, row=row)) for row in rows().values()}
    found |= {name: StoryKind(name, truth, make, staged=make is jobs.HeavyLastStage) for name, make, truth in _TOLD}
    return found | {name: StoryKind(name, truth, make, serves=True) for name, make, truth in _SERVED}
