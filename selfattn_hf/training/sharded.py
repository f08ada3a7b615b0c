"""A model whose weights, gradients and optimiser are cut among processes: FSDP2, by torch's own `fully_shard`.

Every process holds 1/N of all numbers. A layer's weights are gathered when it computes and let go after it; gradients
are summed and cut on the way back. What a process writes down of its part are safetensors too, and never a pickle.

Paper: Rajbhandari et al. 2020, https://arxiv.org/abs/1910.02054 (ZeRO, stage 3).
"""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed import checkpoint
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from transformers import PreTrainedModel

SHARDS, OPTIMIZER, STEPS = "shards", "optimizer", "steps.safetensors"
_FLAT = StateDictOptions(flatten_optimizer_state_dict=True)


def shard(model: PreTrainedModel, mesh: DeviceMesh, *, compute_in: torch.dtype | None = None) -> PreTrainedModel:
    """Cut a model's weights among the processes of a mesh; every layer is gathered by itself.

    Tables of embeddings that are tied stay tied: they belong to the part that is gathered first and kept until the end.

    Args:
        model: with the same weights in every process; it is changed, and returned.
        mesh: of one dimension, or of two: copies, and the parts of each copy.
        compute_in: number format to compute in, such as torch.bfloat16; weights and sums of gradients stay as they are.
    """
    policy = MixedPrecisionPolicy(param_dtype=compute_in, reduce_dtype=torch.float32 if compute_in else None)
    for layer in _layers(model):
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)
    return model


def gathered(model: nn.Module) -> nn.Module:
    """Make all weights whole in every process, until the next forward pass that learns; `generate` needs it.

    It calls encoder and decoder by themselves, and the table of embeddings belongs to neither of them.
    """
    for module in (*_layers(model), model):
        module.unshard()  # a method that `fully_shard` gives them
    return model


def save_shards(model: PreTrainedModel, optimizer: torch.optim.Optimizer | None, folder: str | Path) -> None:
    """Every process writes its part of weights and optimiser, into FOLDER/shards and FOLDER/optimizer.

    Args:
        model: what `shard` returned.
        optimizer: of its parameters; None: the weights alone.
        folder: which all processes see.

    Raises:
        OSError: if it cannot be written.
    """
    _save(_weights(model), Path(folder) / SHARDS)
    if optimizer is not None:
        tables, steps, _ = _parts_of(model, optimizer)
        _save(tables, Path(folder) / OPTIMIZER)
        if torch.distributed.get_rank() == 0:  # they are the same everywhere
            save_file(steps, Path(folder) / STEPS)
    torch.distributed.barrier()


def load_shards(model: PreTrainedModel, optimizer: torch.optim.Optimizer | None, folder: str | Path) -> None:
    """Take up what `save_shards` wrote, with as many processes as there are now.

    Raises:
        ValueError: if FOLDER holds no parts, or those of another model.
    """
    weights = _weights(model)
    _load(weights, Path(folder) / SHARDS)
    set_model_state_dict(model, weights, options=StateDictOptions(strict=False))
    if optimizer is None:
        return
    tables, _, rest = _parts_of(model, optimizer)
    _load(tables, Path(folder) / OPTIMIZER)
    state: dict[str, Any] = {**rest, **tables, **load_file(Path(folder) / STEPS)}
    set_optimizer_state_dict(model, optimizer, state, options=_FLAT)


def gather_shards(model: PreTrainedModel, shards: str | Path, folder: str | Path) -> None:
    """Put the parts together to a folder that every Auto class opens; one process is enough, and no others are asked.

    Args:
        model: of the same config, on one device; it gets the weights.
        shards: what `save_shards` was given.
        folder: for the whole model.

    Raises:
        ValueError: if there are no parts, or those of another model.
    """
    weights = _untied(model, model.state_dict())
    _load(weights, Path(shards) / SHARDS, alone=True)
    model.load_state_dict(weights, strict=False)
    model.tie_weights()
    model.save_pretrained(folder)


def _layers(model: nn.Module) -> Iterator[Any]:
    names = set(getattr(model, "_no_split_modules", None) or ())
    return (module for module in model.modules() if {kind.__name__ for kind in type(module).__mro__} & names)


def _weights(model: PreTrainedModel) -> dict[str, Any]:
    return _untied(model, get_model_state_dict(model))


def _untied(model: PreTrainedModel, weights: dict[str, Any]) -> dict[str, Any]:
    """Without the other names of what is tied, which a file of safetensors holds once."""
    tied = set(getattr(model, "all_tied_weights_keys", {}))
    return {name: tensor for name, tensor in weights.items() if name not in tied}


def _parts_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[dict[str, Any], ...]:
    """What an optimiser knows: tables like the weights, how many steps each has taken, and its settings."""
    state: dict[str, Any] = dict(get_optimizer_state_dict(model, optimizer, options=_FLAT))
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    tables = {name: value for name, value in tensors.items() if value.ndim}
    steps = {name: value for name, value in tensors.items() if not value.ndim}
    return tables, steps, {name: value for name, value in state.items() if name not in tensors}


def _save(tensors: dict[str, Any], folder: Path) -> None:
    writer = checkpoint.HuggingFaceStorageWriter(str(folder), save_distributed=True)
    checkpoint.save(tensors, storage_writer=writer)


def _load(tensors: dict[str, Any], folder: Path, *, alone: bool = False) -> None:
    if not any(folder.glob("*.safetensors")):
        raise ValueError(f"{folder} holds no parts of a model. Name the folder that save_shards was given.")
    try:
        reader = checkpoint.HuggingFaceStorageReader(str(folder))
        with warnings.catch_warnings():
            if alone:  # as it is meant
                warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
            checkpoint.load(tensors, storage_reader=reader, no_dist=alone)
    except (RuntimeError, ValueError, checkpoint.CheckpointException) as error:
        raise ValueError(
            f"{folder} holds parts of another model, or not all of them: {str(error).splitlines()[0]:.200}. Use the "
            "config that they were saved with."
        ) from error
