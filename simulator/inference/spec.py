"""What an inference service is made of, as a scenario says it, and how its engines are built from that."""

from typing import Annotated, Literal

import msgspec

from simulator.inference.arrivals import Load, means, requests
from simulator.inference.cost import Cost, instance, served
from simulator.inference.deployment import Client, Deployment
from simulator.inference.engine import Engine
from simulator.inference.limits import Limits, Role
from simulator.inference.router import Policy, Router
from simulator.physics.tables import PhysicsError

Share = Annotated[float, msgspec.Meta(gt=0, le=1)]


class SpecError(ValueError):
    """A service that cannot be; the message says why."""


class Pace(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How near an instance comes to its data sheet (`cost.Cost`)."""

    compute: Share = 0.45
    memory: Share = 0.7
    overhead_s: Annotated[float, msgspec.Meta(ge=0, le=10)] = 0.004


class ServiceSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An inference service.

    engine: whose pages it writes; shape, hardware: names of `physics/models.toml` and `physics/devices.toml`
    devices: of an instance; weight_bytes: per parameter, 2 is 16 bit
    prefill: so many of its instances only prefill and the others only decode, 0 is aggregated
    mode: "events" lives every step; "expected" advances in closed form, at almost no cost while nothing is asked of it
    prefill_limits, prefill_pace: of prefill instances, where they differ
    """

    engine: Literal["vllm", "sglang"] = "vllm"
    shape: str = "llama3-8b"
    hardware: str = "h100"
    devices: Annotated[int, msgspec.Meta(ge=1, le=4096)] = 8
    weight_bytes: Annotated[float, msgspec.Meta(gt=0, le=8)] = 2.0
    prefill: Annotated[int, msgspec.Meta(ge=0)] = 0
    mode: Literal["expected", "events"] = "expected"
    router: Policy = "least_outstanding"
    decode_router: Policy = "least_outstanding"
    load: Load = Load()
    limits: Limits = Limits()
    pace: Pace = Pace()
    prefill_limits: Limits | None = None
    prefill_pace: Pace | None = None
    handover_s: Annotated[float, msgspec.Meta(ge=0, le=60)] = 0.02

    def role(self, place: int) -> Role:
        """What the instance at a place does: the first `prefill` of them prefill."""
        if not self.prefill:
            return "both"
        return "prefill" if place < self.prefill else "decode"

    def limits_of(self, role: Role) -> Limits:
        return self.prefill_limits or self.limits if role == "prefill" else self.limits

    def cost(self, role: Role) -> Cost:
        """Cost of an instance's steps.

        raises SpecError: no such model or hardware, or the weights leave no memory for a KV cache
        """
        pace = self.prefill_pace or self.pace if role == "prefill" else self.pace
        try:
            model, hardware = served(self.shape, weight_bytes=self.weight_bytes), instance(self.hardware, devices=self.devices)
        except PhysicsError as error:
            raise SpecError(str(error)) from error
        cost = Cost(model=model, hardware=hardware, compute=pace.compute, memory=pace.memory, overhead_s=pace.overhead_s)
        if cost.kv_tokens() < self.limits_of(role).block_size:
            raise SpecError(f"{self.shape} does not fit on {self.devices} {self.hardware}: no memory is left for a KV cache")
        return cost


def deployment(spec: ServiceSpec, names: list[str], *, seed: int, name: str, begin: float = 0.0, keep: bool = False) -> Deployment:
    """Engines of the given names, the service's client before them. name: of the service; keep: what a client measures is kept.

    raises SpecError: too few instances; TraceError: the load's trace cannot be read
    """
    check(spec, len(names))
    engines = []
    for place, own in enumerate(names):
        role = spec.role(place)
        engine = Engine(own, cost=spec.cost(role), limits=spec.limits_of(role), role=role, flavour=spec.engine, seed=seed)
        engine.meter.began_at = begin
        engine.chunks = [] if keep and role != "prefill" else None
        engines.append(engine)
    client = Client(requests(spec.load, seed=seed, name=name, begin=begin), most=spec.load.most_in_flight, keep=keep)
    routers = Router(policy=spec.router), Router(policy=spec.decode_router)
    made = Deployment(engines, client, router=routers[0], decode_router=routers[1], handover_s=spec.handover_s)
    made.now = begin
    return made


def check(spec: ServiceSpec, instances: int) -> None:
    """raises SpecError: so many instances cannot be such a service; TraceError: the load's trace cannot be read."""
    if spec.prefill >= instances:
        raise SpecError(f"{spec.prefill} prefill instances of {instances} leave none to decode")
    if spec.mode == "expected" and (spec.load.kind == "closed" or spec.load.most_in_flight):
        raise SpecError('a limit on requests under way needs mode = "events"')
    for place in range(instances):
        spec.cost(spec.role(place))
    means(spec.load)
