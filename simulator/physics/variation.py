"""A step like another but for the jitter of its passes, without playing its pipelines again: for long healthy stretches."""

from dataclasses import replace

import numpy as np

from simulator.physics.costs import Job
from simulator.physics.noise import jitter_of
from simulator.physics.step import PHASES, Step

_FORWARD, _BACKWARD, _PIPELINE, _REPLICAS = (PHASES.index(name) for name in ("forward", "backward", "pp_wait", "dp_wait"))


def vary(job: Job, step: Step, chance: np.random.Generator) -> Step:
    """The same step with other jitter, at a tenth of the cost.

    What jitter adds to all passes of a stage is drawn at once. A pipeline is late by its latest stage, the others of it wait
    in `pp_wait`; the step by its latest pipeline, the others wait in `dp_wait`. That is the law of `noise.straggle_s`, and
    every rank still has the same step time. The times of single passes (`run`) are left as they were.
    step: without jitter of its own, so that what is drawn is all there is
    """
    layout, run = job.layout, step.run
    takes = run.ends - run.starts
    sizes = np.sqrt(np.einsum("spr,spr->sr", takes, takes))  # (stages, replicas): of independent parts the squares add up
    late = (jitter_of(chance, (layout.pp, layout.dp), job.software) - 1.0) * sizes
    lane = late.max(axis=0)  # (replicas,)
    phases = step.phases[layout.ranks]  # (stages, replicas, cp, tp, phases), a copy
    spare = phases[..., _REPLICAS].min(axis=(0, 2, 3))
    longer = float((lane - spare).max())
    own = phases[..., _FORWARD] + phases[..., _BACKWARD]
    share = 1.0 + late[:, :, None, None] / np.maximum(own, 1e-12)
    phases[..., _FORWARD] *= share
    phases[..., _BACKWARD] *= share
    phases[..., _PIPELINE] += (lane - late)[:, :, None, None]
    phases[..., _REPLICAS] += (longer - lane)[None, :, None, None]
    out = np.empty_like(step.phases)
    out[layout.ranks.reshape(-1)] = phases.reshape(-1, phases.shape[-1])
    return replace(step, step_s=step.step_s + longer, phases=out)
