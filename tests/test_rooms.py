"""The rooms of the house: imports only go down, optional packages stay optional, importing changes nothing."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = REPOSITORY / "jepa_actions"

_MODELS = {"nn", "data", "hub"}  # hub imports nothing but errors: from_pretrained takes a Hub id
_OBJECTIVES = _MODELS | {"models"}
_TRAINING = _OBJECTIVES | {"objectives", "envs", "config", "resources"}
_EVALUATION = _TRAINING | {"training", "planning"}
_ALL = _EVALUATION | {"evaluation"}
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "config": set(),
    "resources": set(),
    "nn": set(),
    "data": set(),
    "envs": set(),
    "planning": set(),
    "models": _MODELS,
    "objectives": _OBJECTIVES,
    "training": _TRAINING,
    "evaluation": _EVALUATION,
    "adapters": _ALL,
    "hub": set(),
    "cli": _ALL,
    "__init__": _ALL,
}
FOREVER_OUTSIDE = {"recipes", "eval", "tests"}
RUN_WITHOUT = (
    "av",
    "datasets",
    "gymnasium",
    "transformers",
    "h5py",
    "xformers",
    "matplotlib",
    "cmaes",
    "mujoco",
    "timm",
)


def room_of(module: str) -> str:
    """`jepa_actions.data.loader` is in `data`; `jepa_actions.config_yaml` belongs to `config`."""
    name = [*module.split("."), "__init__"][1]
    return name if name in MAY_IMPORT else name.partition("_")[0] or name


def imported(source: str, module: str, is_package: bool) -> Iterator[tuple[int, str]]:
    """Line and absolute module of every import, at any depth and in any branch."""
    base = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(ast.parse(source, module)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = base[: len(base) - node.level + 1] if node.level else []
            start = ".".join([*above, *([node.module] if node.module else [])])
            if start == "jepa_actions":  # `from jepa_actions import data` names a room
                names = [alias.name for alias in node.names if alias.name != "__version__"]
                yield from ((node.lineno, f"{start}.{name}") for name in names)
            else:
                yield node.lineno, start


def faults(source: str, module: str, is_package: bool = False) -> list[str]:
    """What a file imports and may not."""
    room, found = room_of(module), []
    allowed = MAY_IMPORT[room] | {room, "errors"}
    for line, name in imported(source, module, is_package):
        top = name.split(".")[0]
        if top in FOREVER_OUTSIDE or (top == "jepa_actions" and room_of(name) not in allowed):
            found.append(f"{module}:{line} imports {name}; {room} may import {', '.join(sorted(allowed))}")
    return found


def modules() -> list[tuple[str, Path]]:
    names = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(REPOSITORY).with_suffix("").parts
        names.append((".".join(parts[:-1] if parts[-1] == "__init__" else parts), path))
    return names


def test_imports_only_go_down():
    found = [f for m, path in modules() for f in faults(path.read_text(), m, path.name == "__init__.py")]
    assert not found, "\n".join(found)


def test_every_folder_and_file_has_a_place():
    assert {room_of(module) for module, _ in modules()} <= set(MAY_IMPORT)


@pytest.mark.parametrize(
    ("module", "source", "wrong"),
    [
        (
            "jepa_actions.data.loader",
            "import numpy\nfrom jepa_actions.errors import DataError\nfrom .types import Batch",
            0,
        ),
        ("jepa_actions.data.loader", "from jepa_actions.models import WorldModel", 1),
        ("jepa_actions.data.loader", "def f():\n    from ..models.encoder import VideoEncoder", 1),
        ("jepa_actions.data.loader", "from .. import models", 1),
        ("jepa_actions.data.loader", "from jepa_actions import __version__", 0),
        ("jepa_actions.planning.cem", "import jepa_actions.models.world_model as w", 1),
        ("jepa_actions.planning.cem", "import jepa_actions", 1),
        ("jepa_actions.training.loop", "from jepa_actions.config import load_config", 0),
        ("jepa_actions.training.loop", "from jepa_actions import planning", 1),
        ("jepa_actions.config", "from jepa_actions.config_yaml import parse_yaml", 0),
        ("jepa_actions.evaluation.tasks", "from eval.planning import main\nimport tests.conftest", 2),
        ("jepa_actions.evaluation.tasks", "from jepa_actions import planning, cli", 1),
    ],
)
def test_the_rule_sees_what_it_should(module: str, source: str, wrong: int):
    assert len(faults(source, module)) == wrong


def rooms() -> list[str]:
    return [f"jepa_actions.{path.parent.name}" for path in sorted(PACKAGE.glob("*/__init__.py"))]


def run(script: str, *argv: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-c", script, *argv], cwd=REPOSITORY, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return result


WITHOUT = """
import importlib, json, sys, traceback
rooms, missing = json.loads(sys.argv[1]), json.loads(sys.argv[2])
sys.modules.update(dict.fromkeys(missing))  # None: an import of it fails
failed = {}
for room in rooms:
    try:
        importlib.import_module(room)
    except ImportError:
        failed[room] = traceback.format_exc(limit=-3)
print(json.dumps(failed))
"""


def test_training_and_planning_need_no_optional_package():
    wanted = [f"jepa_actions.{name}" for name in ("nn", "data", "envs", "models", "objectives", "planning", "training")]
    failed = run(WITHOUT, json.dumps([room for room in wanted if room in rooms()]), json.dumps(RUN_WITHOUT))
    assert not failed, "\n".join(map(str, failed.values()))


QUIET = """
import importlib, json, logging, os, random, signal, sys, warnings
import accelerate, av, datasets, draccus, gymnasium, numpy, timm, torch, torchvision

def state():
    return {
        "threads": torch.get_num_threads(),
        "interop threads": torch.get_num_interop_threads(),
        "default dtype": str(torch.get_default_dtype()),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "matmul precision": torch.get_float32_matmul_precision(),
        "gradients": torch.is_grad_enabled(),
        "torch generator": torch.get_rng_state().tolist(),
        "numpy generator": str(numpy.random.get_state()),
        "python generator": str(random.getstate()),
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "search path": list(sys.path),
        "interrupts": str(signal.getsignal(signal.SIGINT)),
        "log handlers": len(logging.getLogger().handlers),
        "log level": logging.getLogger().level,
        "warning filters": len(warnings.filters),
    }

before = state()
for room in json.loads(sys.argv[1]):
    importlib.import_module(room)
after = state()
print()
print(json.dumps({key: [str(before[key])[:300], str(after[key])[:300]] for key in before if before[key] != after[key]}))
"""


def test_importing_changes_nothing():
    top = [m for m, path in modules() if path.parent == PACKAGE]
    assert run(QUIET, json.dumps(rooms() + top)) == {}
