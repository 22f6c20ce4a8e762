"""What a simulated day costs: CPU seconds, peak memory, and how the cost grows with the cluster. All is simulated.

python -m bench.simulator_speed [day-1024] [day-16384] [dense-16384] [large-16384]
  day-1024      1,024 devices, forty faults: at most 60 s of one core
  day-16384     16,384 devices at published rates: at most 600 s and 4 GB
  dense-16384   sixteen times the jobs and the faults of day-1024: a device-hour is to cost less than 1.5 times as much
  large-16384   as many faults in the jobs of day-16384, up to 512 nodes each: a fault concerns more machines
Every run has a process of its own. CPU time, since others load a machine; wall time stands beside it.
"""

import resource
import subprocess
import sys
import time

import msgspec

from bench.faultcases import config
from holdfast.simulation import Digest, Simulation, Speed
from simulator.scenario import Scenario, read

# CPU seconds and megabytes that a run may take at most.
LIMITS: dict[str, tuple[float, float]] = {"day-1024": (60.0, 4096.0), "day-16384": (600.0, 4096.0)}
_TIMES = 16


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What one run took. share: called by their names; observed: node-hours that were written in full"""

    name: str
    devices: int
    hours: float
    faults: int
    recall: float
    observed: float
    cpu_s: float
    wall_s: float
    peak_mb: float

    @property
    def per_device_hour_ms(self) -> float:
        """CPU milliseconds."""
        return 1e3 * self.cpu_s / self.devices / self.hours

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.devices} devices, {self.hours:.1f} h, {self.faults} faults (recall {self.recall}), {self.observed:.0f} "
            f"node-hours written; {self.cpu_s:.1f} s of CPU, {self.wall_s:.1f} s, peak {self.peak_mb:.0f} MB, "
            f"{self.per_device_hour_ms:.3f} ms a device-hour"
        )


def scenario(name: str) -> Scenario:
    """The scenario of a run."""
    if name == "dense-16384":
        small = read("day-1024")
        jobs = tuple(msgspec.structs.replace(row, copies=row.copies * _TIMES) for row in small.job)
        return msgspec.structs.replace(small, nodes=small.nodes * _TIMES, faults=small.faults * _TIMES, job=jobs)
    if name == "large-16384":
        return msgspec.structs.replace(read("day-16384"), plan="count", faults=read("day-1024").faults * _TIMES)
    return read(name)


def cost(name: str) -> Cost:
    """Run one in this process."""
    wall, cpu = time.monotonic(), time.process_time()
    told = scenario(name)
    simulation = Simulation(told, Digest(), config(told), speed=Speed.FAST)
    while not simulation.over:
        simulation.step()
    score = simulation.score(0.0)
    return Cost(
        name=name, devices=score["devices"], hours=score["simulated_s"] / 3600.0, faults=score["faults"], recall=score["recall"],
        observed=score["observed_node_hours"], cpu_s=time.process_time() - cpu, wall_s=time.monotonic() - wall,
        peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0,
    )  # fmt: skip


def main() -> None:
    if sys.argv[1:2] == ["one"]:
        sys.stdout.buffer.write(msgspec.json.encode(cost(sys.argv[2])))
        return
    known: dict[str, Cost] = {}
    for name in sys.argv[1:] or ("day-1024", "day-16384", "dense-16384", "large-16384"):
        ended = subprocess.run([sys.executable, "-m", "bench.simulator_speed", "one", name], stdout=subprocess.PIPE, check=True)
        known[name] = one = msgspec.json.decode(ended.stdout, type=Cost)
        print(f"SIMULATED  {one}", flush=True)
        if name in LIMITS:
            cpu_s, peak_mb = LIMITS[name]
            print(f"SIMULATED  {name}: at most {cpu_s:.0f} s {_word(one.cpu_s <= cpu_s)}, {peak_mb:.0f} MB {_word(one.peak_mb <= peak_mb)}")
        if name.endswith("-16384") and name != "day-16384" and "day-1024" in known:
            growth = one.per_device_hour_ms / known["day-1024"].per_device_hour_ms
            print(f"SIMULATED  {name}: a device-hour costs {growth:.2f} times day-1024's, less than 1.5 {_word(growth < 1.5)}")


def _word(holds: bool) -> str:
    return "met" if holds else "MISSED"


if __name__ == "__main__":
    main()
