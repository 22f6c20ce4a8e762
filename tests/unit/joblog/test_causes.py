"""What one line or traceback says of why a job ended: verdict, fault and domain, by the wordings that programs really print."""

from pathlib import Path

import pytest

from tests.unit.joblog.output import DONE, diagnose, failed, steps, trace

C, N, X = "culprit", "nobody", "undecided"
RUNTIME = "RuntimeError: "
DIST = "torch.distributed.DistBackendError: NCCL error in: /x/NCCLUtils.hpp:275, "
SLURM = "slurmstepd: error: *** JOB 77 ON node-12 CANCELLED AT 2024-03-02T11:00:00 "

TRACES = [
    ("CUDA error: uncorrectable ECC error encountered", C, "gpu_mem", "hardware"),
    ("CUDA error: uncorrectable NVLink error detected during the execution", C, "nvlink", "hardware"),
    ("CUDA error: Invalid access of peer GPU memory over nvlink or a hardware error", C, "nvlink", "hardware"),
    ("CUDA error: unspecified launch failure", C, "gpu_hw", "hardware"),
    ("CUDA error: an illegal memory access was encountered", N, "software", "software"),
    ("CUDA error: device-side assert triggered", N, "user_code", "user"),
    ("CUDA error: no kernel image is available for execution on the device", N, "user_code", "user"),
    ("CUDA error: out of memory", N, "user_code", "user"),
    (
        "Cannot re-initialize CUDA in forked subprocess. To use CUDA with multiprocessing, use 'spawn'",
        N,
        "user_code",
        "user",
    ),
    ("Unexpected error from cudaGetDeviceCount(). Error 802: system not yet initialized", X, "platform", "hardware"),
    (
        "Unexpected error from cudaGetDeviceCount(). Error 803: system has unsupported display driver",
        X,
        "platform",
        "hardware",
    ),
    ("ACL stream synchronize failed, error code:507054, HBM MULTI BIT ECC ERROR", C, "gpu_mem", "hardware"),
    ("InnerRunOpApi:OpParamMaker.cpp:281 OPS function error: HcclAllreduce, error code is 6", X, "unknown", "unknown"),
    (
        "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's workers are out of shared memory.",
        N,
        "host_resource",
        "software",
    ),
    ("DataLoader worker (pid(s) 7) exited unexpectedly", X, "unknown", "software"),
    ("can't start new thread", N, "host_resource", "software"),
    (
        "[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes.",
        N,
        "host_resource",
        "software",
    ),
    ("[enforce fail at inline_container.cc:664] . unexpected pos 704 vs 598", N, "storage", "storage"),
    ("PytorchStreamReader failed reading zip archive: failed finding central directory", N, "storage", "storage"),
    ("Error(s) in loading state_dict for GPTModel:\n\tsize mismatch for embed.weight", N, "user_code", "user"),
    ("One of the subprocesses has abruptly died during map operation.", X, "unknown", "unknown"),
    ("Expected all tensors to be on the same device, but got mat2 is on cuda:0", N, "user_code", "user"),
    (
        "[4] is setting up NCCL communicator and retrieving ncclUniqueId from [0] via c10d key-value store by key '0', but store->get('0') "
        "got error: Socket Timeout",
        X,
        "unknown",
        "unknown",
    ),
    ("[Rank 0]: Ranks 3 failed to pass monitoredBarrier in 600000 ms", C, "unknown", "software"),
]
OTHERS = [
    ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 55.88 GiB.", N, "user_code", "user"),
    (
        "jaxlib.xla_extension.XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory while trying to allocate 17 bytes.",
        N,
        "user_code",
        "user",
    ),
    ("OSError: [Errno 116] Stale file handle: '/data/x'", N, "storage", "storage"),
    ("OSError: [Errno 5] Input/output error: '/data/x'", N, "storage", "storage"),
    ("OSError: [Errno 30] Read-only file system: '/ckpt/x'", N, "storage", "storage"),
    ("OSError: [Errno 28] No space left on device", N, "host_resource", "storage"),
    ("OSError: [Errno 24] Too many open files: '/data/x'", N, "host_resource", "software"),
    ("PermissionError: [Errno 13] Permission denied: '/ckpt/x'", N, "user_code", "user"),
    ("FileNotFoundError: [Errno 2] No such file or directory: '/data/x'", N, "user_code", "user"),
    (
        "safetensors_rust.SafetensorError: Error while deserializing header: MetadataIncompleteBuffer",
        N,
        "storage",
        "storage",
    ),
    ("OSError: We couldn't connect to 'https://huggingface.co' to load this file", N, "platform", "network"),
    ("huggingface_hub.errors.GatedRepoError: 401 Client Error. (Request ID: Root=1)", N, "user_code", "user"),
    ("botocore.exceptions.EndpointConnectionError: Could not connect to the endpoint URL", N, "storage", "storage"),
    ("botocore.exceptions.NoCredentialsError: Unable to locate credentials", N, "user_code", "user"),
    ("ImportError: libcudnn.so.9: cannot open shared object file: No such file or directory", N, "user_code", "user"),
    ("ImportError: /usr/lib/libtorch_cuda.so: undefined symbol: ncclCommWindowRegister", N, "software", "software"),
    ("KeyError: 'input_ids'", N, "user_code", "user"),
    (
        "Exception: Current loss scale already at minimum - cannot decrease scale anymore. Exiting run.",
        N,
        "user_code",
        "user",
    ),
    (
        "torch.distributed.DistStoreError: Timed out after 601 seconds waiting for clients. 15/16 clients joined.",
        X,
        "unknown",
        "network",
    ),
    (f"{DIST}remote process exited or there was a network error, NCCL version 2.21.5", X, "unknown", "unknown"),
    (
        "ray.exceptions.OutOfMemoryError: Task was killed due to the node running low on memory.",
        N,
        "host_resource",
        "software",
    ),
    ("ray.exceptions.ActorDiedError: The actor died unexpectedly before finishing this task.", X, "unknown", "unknown"),
    (
        "AssertionError: Rank 3: found NaN in local forward loss calculation. Device: 3, node: gpu-7",
        X,
        "unknown",
        "user",
    ),
]


@pytest.mark.parametrize(
    ("message", "judgement", "fault", "domain"), [*((RUNTIME + text, *more) for text, *more in TRACES), *OTHERS]
)
def test_the_last_word_of_a_traceback(tmp_path: Path, message: str, judgement: str, fault: str, domain: str) -> None:
    told = diagnose(tmp_path, {"train.log": steps() + trace(message, "[rank5]: ")})
    assert (told.verdict, told.fault, told.detail["domain"]) == (judgement, fault, domain)
    assert told.culprits == () or told.culprits[0].id in ("5", "3")


LINES = [
    pytest.param(
        "node7:98:131 [2] NCCL WARN NET/IB : mlx5_3:1 Got async event : port error",
        C,
        "nic",
        "network",
        id="a port that went down",
    ),
    pytest.param(
        "g2:3:4 [6] transport/net_ib.cc:2244 NCCL WARN NET/IB: Got completion from peer 192.0.2.5<53908> with status=12 opcode=129",
        X,
        "fabric",
        "network",
        id="a retry that was never answered, and one witness",
    ),
    pytest.param(
        "g2:3:4 [2] transport/nvls.cc:254 NCCL WARN Cuda failure 1 'invalid argument'",
        C,
        "platform",
        "hardware",
        id="a fabric manager that was restarted",
    ),
    pytest.param(
        "Failed to initialize NVML: Driver/library version mismatch",
        X,
        "platform",
        "hardware",
        id="a driver of another version",
    ),
    pytest.param(
        "HW Exception by GPU node-4 (Agent handle: 0x5) reason :GPU Hang",
        X,
        "gpu_hw",
        "hardware",
        id="a device that hangs",
    ),
    pytest.param(f"{SLURM}DUE TO TIME LIMIT ***", N, "scheduler", "scheduler", id="the time is up"),
    pytest.param(f"{SLURM}DUE TO PREEMPTION ***", N, "scheduler", "scheduler", id="others went first"),
    pytest.param(f"{SLURM}***", N, "scheduler", "scheduler", id="somebody cancelled it"),
    pytest.param("srun: error: Node failure on node-17", C, "host", "hardware", id="a node that failed is named"),
    pytest.param(
        "srun: error: Task launch for 1443722.0 failed on node compute-0-1: Job credential expired",
        C,
        "platform",
        "software",
        id="a node whose clock is wrong",
    ),
    pytest.param(
        "slurmstepd: error: Detected 1 oom_kill event in StepId=4.0. Some of the step tasks have been OOM Killed.",
        N,
        "host_resource",
        "software",
        id="a step that was killed for its memory",
    ),
    pytest.param(
        "srun: error: node-12: task 3: Killed", X, "unknown", "unknown", id="a kill without the kernel's word"
    ),
    pytest.param(
        "train.sh: line 12: 12345 Killed                  python train.py",
        X,
        "unknown",
        "unknown",
        id="a shell that tells of one",
    ),
    pytest.param(
        "Warning  Evicted  2m  kubelet  The node was low on resource: ephemeral-storage.",
        N,
        "host_resource",
        "scheduler",
        id="a pod that was evicted",
    ),
    pytest.param(
        "Warning  Failed  2m  kubelet  Error: ImagePullBackOff",
        N,
        "platform",
        "software",
        id="an image that is not there",
    ),
    pytest.param(
        "exiting program after receiving SIGTERM.", N, "scheduler", "scheduler", id="an end that was asked for"
    ),
    pytest.param(
        "WARNING:torch.distributed.elastic.multiprocessing.api:Sending process 1 closing signal SIGHUP",
        N,
        "user_code",
        "user",
        id="a terminal that was closed",
    ),
    pytest.param(
        '^CTraceback (most recent call last):\n  File "t.py", line 1, in <module>\nKeyboardInterrupt',
        N,
        "user_code",
        "user",
        id="a person who stopped it",
    ),
    pytest.param(
        "ssh: connect to host node-7 port 22: Connection timed out",
        C,
        "platform",
        "software",
        id="a node that lets nobody in",
    ),
    pytest.param(
        "[W socket.cpp:601] [c10d] The IPv6 network addresses of (worker-0.train, 29500) cannot be retrieved (gai error: -2).",
        N,
        "platform",
        "network",
        id="a name that is not resolved",
    ),
    pytest.param(
        "[W socket.cpp:426] [c10d] The server socket has failed to bind to [::]:29500 (errno: 98 - Address already in use).",
        N,
        "software",
        "software",
        id="a port that is taken",
    ),
    pytest.param(
        "ERROR: megatron.core.dist_checkpointing.strategies.filesystem_async: Local process 0 encountered an error: "
        "[Errno 5] Input/output error",
        N,
        "storage",
        "storage",
        id="a writer beside the training",
    ),
    pytest.param(
        "F0929 17:42:48.594200 1044529 client.h:77] Terminating process because the JAX distributed service detected fatal errors.",
        X,
        "unknown",
        "unknown",
        id="one task of many that follows another",
    ),
    pytest.param(
        "License checkout failed. License Manager Error -15",
        N,
        "platform",
        "software",
        id="a licence that was not given",
    ),
    pytest.param(
        "=>> PBS: job killed: walltime 3611 exceeded limit 3600",
        N,
        "scheduler",
        "scheduler",
        id="the time of another scheduler",
    ),
    pytest.param(
        "TERM_MEMLIMIT: job killed after reaching LSF memory usage limit.",
        N,
        "host_resource",
        "software",
        id="its memory",
    ),
    pytest.param(
        "slurmstepd: error: Munge decode failed: Expired credential",
        X,
        "platform",
        "software",
        id="a clock that is wrong somewhere",
    ),
    pytest.param(
        "dgx-3:2:3 [0] misc/ibvwrap.cc:187 NCCL WARN Call to ibv_modify_qp failed with error Network is unreachable",
        C,
        "fabric",
        "network",
        id="devices that do not reach each other",
    ),
    pytest.param(
        "ERROR:megatron.core.rerun_state_machine:Rank 3, node core-1, device 3, iteration #3: First rerun: unexpected result is not "
        "reproducible within the tolerance (1.0 != nan)",
        C,
        "sdc",
        "hardware",
        id="a result that is another when it is computed again",
    ),
    pytest.param(
        "[23:35:17][p800-node13][42][ERR][BKCL][init.cpp:1485] BKCL dont support send to one peer multi times in one group",
        N,
        "software",
        "software",
        id="what a collective library cannot do",
    ),
    pytest.param(
        "node1:1:1 [0] misc/shmutils.cc:72 NCCL WARN Error: failed to extend /dev/shm/nccl-xyz to 9637892 bytes",
        N,
        "host_resource",
        "software",
        id="shared memory that is full",
    ),
    pytest.param(
        "node1:1:1 [0] init.cc:795 NCCL WARN Duplicate GPU detected : rank 1 and rank 0 both on CUDA device 1b000",
        N,
        "user_code",
        "user",
        id="two ranks on one device",
    ),
    pytest.param(
        "ORTE has lost communication with a remote daemon.",
        X,
        "host",
        "hardware",
        id="a node that went away under mpirun",
    ),
    pytest.param(
        "[36m(RayWorkerWrapper pid=4009)[0m RuntimeError: CUDA error: uncorrectable ECC error encountered",
        X,
        "gpu_mem",
        "hardware",
        id="a line whose colours lost their escape",
    ),
]


@pytest.mark.parametrize(("line", "judgement", "fault", "domain"), LINES)
def test_one_line_that_says_it(tmp_path: Path, line: str, judgement: str, fault: str, domain: str) -> None:
    told = diagnose(tmp_path, {"train.log": steps() + line + "\n"})
    assert (told.verdict, told.fault, told.detail["domain"]) == (judgement, fault, domain)


@pytest.mark.parametrize(
    ("code", "said", "fault"),
    [
        pytest.param(-9, "Signal 9 (SIGKILL) received by PID 16", "unknown", id="killed, nobody says by whom"),
        pytest.param(-11, "Signal 11 (SIGSEGV) received by PID 16", "software", id="a segmentation fault"),
        pytest.param(-6, "Signal 6 (SIGABRT) received by PID 16", "unknown", id="aborted, nobody says why"),
        pytest.param(1, "To enable traceback see", "unknown", id="an exit status alone"),
    ],
)
def test_an_exit_status_is_no_cause(tmp_path: Path, code: int, said: str, fault: str) -> None:
    told = diagnose(tmp_path, {"train.log": steps() + failed(code, said=said)})
    assert (told.verdict, told.fault, told.culprits) == (X, fault, ())
    assert told.detail["missing"]


NOISE = """W tensorflow/dso_loader.cc:64] Could not load dynamic library 'libcudart.so.11.0'; dlerror: cannot open shared object file
node1:12:13 [0] NCCL INFO NET/Plugin: Could not find: libnccl-net.so. Using internal net plugin.
A matching Triton is not available, some optimizations will not be enabled.
Error caught was: No module named 'triton'
sh: 1: nvcc: not found
/opt/x.py:3: FutureWarning: CUDA out of memory will be raised as another class
Exception ignored in: <function Loader.__del__ at 0x7f>
Traceback (most recent call last):
  File "/opt/loader.py", line 1510, in __del__
    self.stop()
AttributeError: 'Loader' object has no attribute 'queue'
"""


@pytest.mark.parametrize(
    ("text", "judgement", "fault"),
    [
        pytest.param(NOISE + steps() + DONE, "healthy", "none", id="a run to its end"),
        pytest.param(NOISE + trace("KeyError: 'a'"), N, "user_code", id="an error after it"),
        pytest.param(steps() + NOISE + DONE, "healthy", "none", id="noise at the end"),
        pytest.param(steps() + "exiting program at iteration 500\n", "healthy", "none", id="a planned end"),
        pytest.param(
            steps(5) + trace("OSError: [Errno 5] Input/output error") + steps(9, first=5) + DONE,
            "healthy",
            "none",
            id="what was survived",
        ),
    ],
)
def test_what_looks_like_trouble_and_is_none(tmp_path: Path, text: str, judgement: str, fault: str) -> None:
    told = diagnose(tmp_path, {"train.log": text})
    assert (told.verdict, told.fault) == (judgement, fault)
