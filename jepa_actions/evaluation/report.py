"""What every report of an evaluation says about where its numbers come from."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

import torch


def hardware(device: torch.device | None = None) -> dict[str, str | int]:
    """Processor, cores, threads and torch version, and the accelerator when `device` is one."""
    found: dict[str, str | int] = {
        "cpu": _cpu_model(),
        "cores": len(_affinity()),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    if device is not None and device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
    return found


def commit() -> str:
    """The revision of this code: git's, with `-dirty` when tracked files differ from it, else the package's version."""
    folder = Path(__file__).resolve().parent.parent
    # An installed package may lie below somebody else's repository; only one that tracks this package counts.
    if _git(folder, "ls-files", "--error-unmatch", "errors.py") is None:
        try:
            return f"jepa-actions {importlib.metadata.version('jepa-actions')}"
        except importlib.metadata.PackageNotFoundError:
            return "unknown"
    revision = _git(folder, "rev-parse", "HEAD") or "unknown"
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no", "--", ".")
    return f"{revision}-dirty" if changed else revision


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _affinity() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
