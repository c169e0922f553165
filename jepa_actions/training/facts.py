"""What a checkpoint remembers beside weights: where it was trained, and on which data."""

import hashlib
import json
from dataclasses import asdict
from typing import Any

import torch
from accelerate import Accelerator

from jepa_actions.models import WorldModel
from jepa_actions.training.sources import OpenData


def machine_facts(accelerator: Accelerator) -> dict[str, Any]:
    """Where sums are made; another one makes them in another order."""
    return {
        "processes": accelerator.num_processes,
        "threads": torch.get_num_threads(),
        "device": accelerator.device.type,
        "torch": torch.__version__,
    }


def model_facts(model: WorldModel, data: OpenData) -> dict[str, Any]:
    """What opens the weights again without the data: architecture and action codec; and what they are told of."""
    return {
        "config": asdict(model.config),
        "codec": None if model.codec is None else model.codec.to_dict(),
        "data": data.notes,
    }


def data_facts(data: OpenData) -> dict[str, Any]:
    """By what a data set is known again, wherever it lies: its extent, its actions and their statistics."""
    dataset = data.dataset
    lengths = dataset.lengths()
    codec = None if data.codec is None else json.dumps(data.codec.to_dict(), sort_keys=True)
    return {
        "fps": float(dataset.fps),
        "cameras": list(dataset.cameras),
        "actions": list(dataset.action_names or ()),
        "episodes": len(dataset),
        "frames": int(lengths.sum()),
        "lengths": hashlib.sha256(lengths.astype("<i8").tobytes()).hexdigest()[:16],
        "codec": None if codec is None else hashlib.sha256(codec.encode()).hexdigest()[:16],
    }
