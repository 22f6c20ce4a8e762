"""A real torch job on gloo: two pipeline stages, each on two data-parallel ranks, with checkpoints and pauses.

    holdfast run -- torchrun --nproc-per-node 4 examples/train_ddp.py --fault skip --fault-rank 1

Ranks 0 and 1 hold stage 0, ranks 2 and 3 stage 1. A step: stage 0 sends its activations to stage 1, stage 1 sends the
gradients back, each stage adds its gradients up over its data-parallel group, and all ranks agree on the loss.
"""

import argparse
import os
import time
from contextlib import nullcontext

import faults
import torch
import torch.distributed as dist
from torch import nn

try:
    import ftagent
except ImportError:  # without Holdfast the job runs as well
    ftagent = None

WIDTH, BATCH = 64, 32


def phase(name: str):
    """Tell the agent what the job does now."""
    return ftagent.phase(name) if ftagent else nullcontext()


class Pauses:
    """Announces so many pauses of the job and is silent about the rest; below 0 all are announced."""

    def __init__(self, announced: int) -> None:
        self.left = announced

    def phase(self, name: str):
        if self.left == 0:
            return nullcontext()
        self.left -= 1
        return phase(name)


class Layout:
    """Who this rank is: its stage, its partner in the pipeline, its data-parallel group."""

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.width = self.size // 2
        self.stage = self.rank // self.width
        self.partner = (self.rank + self.width) % self.size
        # every rank makes every group, in the same order
        data = [
            dist.new_group(list(range(s * self.width, (s + 1) * self.width)), group_desc=f"dp_stage{s}") for s in (0, 1)
        ]
        pipes = [dist.new_group([r, r + self.width], group_desc=f"pp_{r}") for r in range(self.width)]
        self.data, self.pipe = data[self.stage], pipes[self.rank % self.width]


def checkpoint_path(folder: str, step: int, rank: int) -> str:
    return os.path.join(folder, f"step{step:06d}-rank{rank}.pt")


def save_checkpoint(folder: str, step: int, layout: Layout, model: nn.Module) -> None:
    """Every rank writes its part; the step counts once all have."""
    path = checkpoint_path(folder, step, layout.rank)
    torch.save(model.state_dict(), path + ".new")
    os.replace(path + ".new", path)
    dist.barrier()
    if layout.rank == 0:
        latest = os.path.join(folder, "latest")
        with open(latest + ".new", "w") as file:
            file.write(str(step))
        os.replace(latest + ".new", latest)


def load_checkpoint(folder: str, layout: Layout, model: nn.Module) -> int:
    """The step to go on from."""
    latest = os.path.join(folder, "latest")
    if not os.path.exists(latest):
        return 0
    with open(latest) as file:
        step = int(file.read())
    model.load_state_dict(torch.load(checkpoint_path(folder, step, layout.rank), weights_only=True))
    return step + 1


def compute(seconds: float) -> None:
    """Stands for the arithmetic of a real model."""
    time.sleep(seconds)


def evaluate(options: argparse.Namespace, pauses: Pauses) -> None:
    """An evaluation takes as long as so many steps."""
    with pauses.phase("evaluation"):
        compute(options.eval_steps * options.step_s)


def forward_backward(layout: Layout, model: nn.Module, options: argparse.Namespace, step: int, fault: faults.Fault):
    """One micro-batch through both stages; the loss is known to stage 1."""
    loss = torch.zeros(1)
    with phase("forward"):
        compute(options.step_s / 2)
        if layout.stage == 0:
            out = model(torch.randn(BATCH, WIDTH))
            dist.send(out.detach(), layout.partner, group=layout.pipe)
            taken = None
        else:
            if fault.due("recv", step):
                faults.wait_for_tokenizer()
            taken = torch.empty(BATCH, WIDTH)
            dist.recv(taken, layout.partner, group=layout.pipe)
            taken.requires_grad_()
            loss = (model(taken) ** 2).mean()
    with phase("backward"):
        compute(options.step_s / 2)
        if layout.stage == 1:
            loss.backward()
            dist.send(taken.grad, layout.partner, group=layout.pipe)
        else:
            grad = torch.empty(BATCH, WIDTH)
            dist.recv(grad, layout.partner, group=layout.pipe)
            out.backward(grad)
    return loss


def train(layout: Layout, model: nn.Module, options: argparse.Namespace, fault: faults.Fault) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    pauses, broken = Pauses(options.announced), False
    for step in range(load_checkpoint(options.checkpoint_dir, layout, model), options.steps):
        optimizer.zero_grad()
        loss = forward_backward(layout, model, options, step, fault)
        fault.strike_process(step)
        if fault.due("block", step):
            faults.wait_for_tokenizer()
        if not fault.due("skip", step):
            for parameter in model.parameters():
                dist.all_reduce(parameter.grad, group=layout.data)
        optimizer.step()
        # every rank learns the mean loss; the whole world meets here once a step
        total = loss.detach().clone().reshape(1)
        dist.all_reduce(total)
        value = float(total) / layout.width
        broken = broken or fault.due("nan", step)  # once the weights are NaN every loss is
        if broken:
            value = float("nan")
        if ftagent:
            ftagent.step(step, loss=value, tokens=BATCH)
        if layout.rank == 0 and step % 10 == 0:
            print(f"step {step}/{options.steps} loss {value:.6f}", flush=True)
        if options.checkpoint_every and step % options.checkpoint_every == options.checkpoint_every - 1:
            with pauses.phase("checkpoint"):
                save_checkpoint(options.checkpoint_dir, step, layout, model)
                compute(options.checkpoint_steps * options.step_s)
        if options.eval_every and step % options.eval_every == options.eval_every - 1:
            evaluate(options, pauses)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--step-s", type=float, default=0.2)
    parser.add_argument("--checkpoint-dir", default="checkpoints")
    parser.add_argument("--checkpoint-every", type=int, default=10)
    parser.add_argument("--checkpoint-steps", type=int, default=0, help="a checkpoint takes as long as so many steps")
    parser.add_argument("--eval-every", type=int, default=0)
    parser.add_argument("--eval-steps", type=int, default=20, help="an evaluation takes as long as so many steps")
    parser.add_argument("--announced", type=int, default=-1, help="tell the agent of so many pauses; below 0: of all")
    faults.add_arguments(parser)
    options = parser.parse_args()
    os.makedirs(options.checkpoint_dir, exist_ok=True)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    dist.init_process_group("gloo")
    layout = Layout()
    model = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH))
    train(layout, model, options, faults.Fault(options, layout.rank, options.checkpoint_dir))
    dist.barrier()
    if layout.rank == 0:
        print("done", flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
