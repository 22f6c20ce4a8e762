"""Four plain Python processes that train a small model and add their gradients up in a ring over sockets.

    holdfast run --nproc 4 -- python examples/train_ring.py --fault block --fault-rank 2

Standard library only. Each rank holds a share of the data, computes the gradient of a linear model, and the ring
all-reduce sums it; every few steps rank 0 saves the weights, and a restarted job goes on from there.
"""

import argparse
import json
import math
import os
import random
import socket
import struct
import time

import faults

try:
    import ftagent
except ImportError:  # without Holdfast the job runs as well

    class ftagent:  # type: ignore[no-redef]
        """Stands in where no agent is installed."""

        from contextlib import nullcontext as phase

        step = staticmethod(lambda n, **numbers: None)


FEATURES = 16


def connect(host: str, port: int) -> socket.socket:
    for _ in range(600):
        try:
            return socket.create_connection((host, port))
        except ConnectionRefusedError:
            time.sleep(0.05)
    raise ConnectionError(f"nobody at {host}:{port}")


def receive(line: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = line.recv(size - len(data))
        if not part:
            raise ConnectionError("the other side has gone")
        data += part
    return data


def meet(rank: int, size: int, host: str, port: int, mine: int) -> list[int]:
    """Every rank tells rank 0 at which port it listens, and is told where all do."""
    if rank:
        with connect(host, port) as line:
            line.sendall(struct.pack("2i", rank, mine))
            return list(struct.unpack(f"{size}i", receive(line, 4 * size)))
    ports, lines = {0: mine}, []
    with socket.create_server((host, port)) as hub:
        while len(ports) < size:
            lines.append(hub.accept()[0])
            other, theirs = struct.unpack("2i", receive(lines[-1], 8))
            ports[other] = theirs
    for line in lines:
        line.sendall(struct.pack(f"{size}i", *(ports[r] for r in range(size))))
        line.close()
    return [ports[r] for r in range(size)]


class Ring:
    """This rank's two neighbours: receives from the left, sends to the right."""

    def __init__(self, rank: int, size: int, host: str, port: int) -> None:
        self.size = size
        with socket.create_server((host, 0)) as server:
            ports = meet(rank, size, host, port, server.getsockname()[1])
            self.right = connect(host, ports[(rank + 1) % size])
            self.left, _ = server.accept()

    def send_chunk(self, values: list[float]) -> None:
        self.right.sendall(struct.pack(f"{len(values)}d", *values))

    def recv_chunk(self, count: int) -> list[float]:
        return list(struct.unpack(f"{count}d", receive(self.left, 8 * count)))

    def all_reduce(self, values: list[float]) -> list[float]:
        """The sum over all ranks: each value travels once round the ring."""
        total, passing = values, values
        for _ in range(self.size - 1):
            self.send_chunk(passing)
            passing = self.recv_chunk(len(values))
            total = [a + b for a, b in zip(total, passing, strict=True)]
        return total


def gradient(weights: list[float], data: list[tuple[list[float], float]]) -> tuple[list[float], float]:
    """Gradient and loss of a linear model on this rank's data."""
    grad, loss = [0.0] * FEATURES, 0.0
    for x, y in data:
        error = sum(w * v for w, v in zip(weights, x, strict=True)) - y
        loss += error * error
        grad = [g + 2 * error * v for g, v in zip(grad, x, strict=True)]
    return [g / len(data) for g in grad], loss / len(data)


def save(path: str, step: int, weights: list[float]) -> None:
    with open(path + ".new", "w") as file:
        json.dump({"step": step, "weights": weights}, file)
    os.replace(path + ".new", path)


def load(path: str) -> tuple[int, list[float]]:
    if not os.path.exists(path):
        return 0, [0.0] * FEATURES
    with open(path) as file:
        kept = json.load(file)
    return kept["step"] + 1, kept["weights"]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--step-s", type=float, default=0.1, help="seconds of compute in a step")
    parser.add_argument("--checkpoint-dir", default=".")
    faults.add_arguments(parser)
    options = parser.parse_args()
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    os.makedirs(options.checkpoint_dir, exist_ok=True)
    checkpoint = os.path.join(options.checkpoint_dir, "ring.json")
    fault = faults.Fault(options, rank, options.checkpoint_dir)

    chance = random.Random(rank)
    truth = [0.1 * n for n in range(FEATURES)]
    inputs = [[chance.gauss(0, 1) for _ in range(FEATURES)] for _ in range(64)]
    data = [(x, sum(w * v for w, v in zip(truth, x, strict=True))) for x in inputs]
    ring = Ring(rank, size, os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
    first, weights = load(checkpoint)
    if rank == 0:
        print(f"training from step {first}", flush=True)

    for step in range(first, options.steps):
        with ftagent.phase("forward"):
            grad, loss = gradient(weights, data)
            time.sleep(options.step_s)
        fault.strike_process(step)
        if fault.due("block", step):
            faults.wait_for_tokenizer()
        with ftagent.phase("all_reduce"):
            grad = ring.all_reduce(grad)
        weights = [w - 0.05 * g / size for w, g in zip(weights, grad, strict=True)]
        if fault.due("nan", step):
            weights = [float("nan")] * FEATURES
        ftagent.step(step, loss=loss, tokens=len(data))
        if rank == 0 and step % 10 == 9 and math.isfinite(loss):  # a checkpoint of NaN would be no way back
            save(checkpoint, step, weights)
            print(f"step {step} loss {loss:.6f}", flush=True)
    if rank == 0:
        print("done", flush=True)


if __name__ == "__main__":
    main()
