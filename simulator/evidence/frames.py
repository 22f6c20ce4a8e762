"""Where a program stands, as its Python frames show it: the training framework's own calls around each act."""

import re
from dataclasses import dataclass

from simulator.evidence.groups import Layout


@dataclass(frozen=True)
class Frame:
    """One call, innermost first in a stack."""

    name: str
    file: str
    line: int


def frames_of(*rows: str) -> tuple[Frame, ...]:
    """Frames written as `name file:line`."""
    parts = (re.split(r"[ :]", row) for row in rows)
    return tuple(Frame(name, file, int(line)) for name, file, line in parts)


_P2P = "megatron/core/pipeline_parallel/p2p_communication.py"

# What calls the communication library, by the operation.
_CALLS: dict[str, tuple[Frame, ...]] = {
    name: frames_of(
        f"{call} torch/distributed/distributed_c10d.py:{line}", "wrapper torch/distributed/c10d_logger.py:81"
    )
    for name, call, line in (
        ("all_reduce", "all_reduce", 2924),
        ("_all_gather_base", "all_gather_into_tensor", 3971),
        ("_reduce_scatter_base", "reduce_scatter_tensor", 4462),
        ("all_to_all", "all_to_all_single", 4615),
        ("broadcast", "broadcast", 2814),
        ("all_reduce_barrier", "barrier", 4837),
        ("transfer", "batch_isend_irecv", 2681),
        ("coalesced", "batch_isend_irecv", 2681),
        ("send", "isend", 2490),
        ("recv", "irecv", 2528),
    )
}
_SYNCHRONIZE = frames_of("synchronize torch/cuda/__init__.py:1040")

# What the framework does, by the first word of an act's place, then by the whole place; innermost first.
_AROUND: dict[str, tuple[Frame, ...]] = {
    "forward.attention": frames_of(
        "forward megatron/core/tensor_parallel/layers.py:992",
        "_call_impl torch/nn/modules/module.py:1762",
        "forward megatron/core/transformer/attention.py:764",
        "_forward_attention megatron/core/transformer/transformer_layer.py:499",
    ),
    "forward.mlp": frames_of(
        "forward megatron/core/tensor_parallel/layers.py:1258",
        "forward megatron/core/transformer/mlp.py:188",
        "_forward_mlp megatron/core/transformer/transformer_layer.py:604",
    ),
    "forward.embedding": frames_of(
        "reduce_scatter_to_sequence_parallel_region megatron/core/tensor_parallel/mappings.py:521",
        "forward megatron/core/models/common/embeddings/language_model_embedding.py:118",
    ),
    "forward.head": frames_of(
        "forward megatron/core/tensor_parallel/layers.py:992", "_postprocess megatron/core/models/gpt/gpt_model.py:512"
    ),
    "forward.loss": frames_of(
        "forward megatron/core/tensor_parallel/cross_entropy.py:142",
        "compute_language_model_loss megatron/core/models/common/language_module/language_module.py:114",
    ),
    "forward.router": frames_of(
        "preprocess megatron/core/transformer/moe/token_dispatcher.py:471",
        "forward megatron/core/transformer/moe/moe_layer.py:206",
    ),
    "forward.dispatch": frames_of(
        "all_to_all megatron/core/tensor_parallel/mappings.py:570",
        "token_dispatch megatron/core/transformer/moe/token_dispatcher.py:604",
        "forward megatron/core/transformer/moe/moe_layer.py:211",
    ),
    "forward.combine": frames_of(
        "all_to_all megatron/core/tensor_parallel/mappings.py:570",
        "token_combine megatron/core/transformer/moe/token_dispatcher.py:691",
        "forward megatron/core/transformer/moe/moe_layer.py:219",
    ),
    "broadcast_data": frames_of(
        "broadcast_data megatron/core/tensor_parallel/data.py:103",
        "get_batch_on_this_tp_rank megatron/training/utils.py:452",
    ),
    "data": frames_of(
        "__next__ torch/utils/data/dataloader.py:733",
        "__next__ megatron/core/rerun_state_machine.py:1012",
        "get_batch pretrain_gpt.py:137",
    ),
    "gradients.data": frames_of(
        "start_grad_sync megatron/core/distributed/param_and_grad_buffer.py:338",
        "finish_grad_sync megatron/core/distributed/distributed_data_parallel.py:471",
        "finalize_model_grads megatron/core/distributed/finalize_model_grads.py:402",
    ),
    "gradients.expert": frames_of(
        "finish_grad_sync megatron/core/distributed/param_and_grad_buffer.py:401",
        "finalize_model_grads megatron/core/distributed/finalize_model_grads.py:402",
    ),
    "gradients.norms": frames_of(
        "_allreduce_non_tensor_model_parallel_grads megatron/core/distributed/finalize_model_grads.py:254",
        "finalize_model_grads megatron/core/distributed/finalize_model_grads.py:418",
    ),
    "gradients.embedding": frames_of(
        "_allreduce_word_embedding_grads megatron/core/distributed/finalize_model_grads.py:148",
        "finalize_model_grads megatron/core/distributed/finalize_model_grads.py:425",
    ),
    "optimizer.norm": frames_of(
        "get_grad_norm_fp32 megatron/core/optimizer/clip_grads.py:121", "step megatron/core/optimizer/optimizer.py:604"
    ),
    "optimizer.item": frames_of(
        "item torch/_tensor.py:1004",
        "get_grad_norm_fp32 megatron/core/optimizer/clip_grads.py:130",
        "step megatron/core/optimizer/optimizer.py:604",
    ),
    "optimizer.gather": frames_of(
        "start_param_sync megatron/core/distributed/param_and_grad_buffer.py:244",
        "step_with_ready_grads megatron/core/optimizer/distrib_optimizer.py:2310",
    ),
    "log.loss": frames_of("loss_func pretrain_gpt.py:183"),
    "log.overflow": frames_of("prepare_grads megatron/core/optimizer/optimizer.py:441"),
    "log.item": frames_of("item torch/_tensor.py:1004", "training_log megatron/training/training.py:1702"),
    "save.barrier": frames_of("save_checkpoint megatron/training/checkpointing.py:512"),
    "save.write": frames_of(
        "_write_file torch/distributed/checkpoint/filesystem.py:402",
        "save torch/serialization.py:967",
        "save_checkpoint megatron/training/checkpointing.py:488",
    ),
    "start.barrier": frames_of("initialize_megatron megatron/training/initialize.py:92"),
    "start.time": frames_of("pretrain megatron/training/training.py:704"),
}
_TRANSFERS = {
    "warmup": ("recv_forward", 312),
    "steady": ("send_forward_recv_backward", 471),
    "cooldown": ("recv_backward", 366),
}
_STEP = frames_of("train_step megatron/training/training.py:1358")
_MAIN = frames_of(
    "train megatron/training/training.py:2411",
    "pretrain megatron/training/training.py:888",
    "<module> pretrain_gpt.py:281",
)
_FORWARD_STEP = frames_of(
    "forward_step pretrain_gpt.py:221", "forward_step megatron/core/pipeline_parallel/schedules.py:315"
)


def python_frames(place: str, op: str, layout: Layout) -> list[Frame]:
    """The frames of a rank that stands at a place. op: what it calls there, "synchronize" where its host waits for the device."""
    word = op.split(" ")[0]
    call = _SYNCHRONIZE if word == "synchronize" and not place.endswith("item") else _CALLS.get(word, ())
    return [*call, *_middle(place, layout)]


def _middle(place: str, layout: Layout) -> list[Frame]:
    kind, _, rest = place.partition(".")
    outer = [*_schedule(layout), *_STEP, *_MAIN]
    if kind == "transfer":
        name, line = _TRANSFERS[rest]
        return [
            Frame("_communicate", "megatron/core/pipeline_parallel/p2p_communication.py", 398),
            Frame(name, _P2P, line),
            *outer,
        ]
    if kind in ("forward", "broadcast_data", "data"):
        return [*_AROUND[place], *_FORWARD_STEP, *outer]
    if kind == "backward":
        return [*in_backward()[1:], *outer]
    if kind in ("gradients", "optimizer"):
        return [*_AROUND[place], *_STEP, *_MAIN]
    if kind == "save":
        return [*_AROUND[place], Frame("save_checkpoint_and_time", "megatron/training/training.py", 1998), *_MAIN]
    return [*_AROUND.get(place, ()), *_MAIN]


def in_backward() -> list[Frame]:
    """What the engine's own thread runs in the backward pass, innermost first."""
    return [
        Frame("backward", "megatron/core/tensor_parallel/layers.py", 566),
        Frame("backward", "megatron/core/tensor_parallel/layers.py", 566),
        Frame("apply", "torch/autograd/function.py", 307),
    ]


def driving_backward(layout: Layout) -> list[Frame]:
    """The main thread meanwhile: it waits for the engine."""
    return [
        Frame("_engine_run_backward", "torch/autograd/graph.py", 829),
        Frame("backward", "torch/autograd/__init__.py", 353),
        Frame("custom_backward", "megatron/core/pipeline_parallel/schedules.py", 181),
        Frame("backward_step", "megatron/core/pipeline_parallel/schedules.py", 389),
        *_schedule(layout),
        *_STEP,
        *_MAIN,
    ]


def _schedule(layout: Layout) -> tuple[Frame, ...]:
    if layout.pp > 1:
        return frames_of(
            "forward_backward_pipelining_without_interleaving megatron/core/pipeline_parallel/schedules.py:2091"
        )
    return frames_of("forward_backward_no_pipelining megatron/core/pipeline_parallel/schedules.py:614")
