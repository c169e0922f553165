"""Torch threads from the cores that this process may use."""

import os

import torch


def use_all_cores() -> int:
    """Share this machine's cores among its processes; `accelerate launch` alone leaves each with one thread."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = max(1, available // max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
    torch.set_num_threads(threads)
    return threads


def is_main_process() -> bool:
    """Whether this is the first of the launched processes (or the only one)."""
    return int(os.environ.get("RANK", "0")) == 0
