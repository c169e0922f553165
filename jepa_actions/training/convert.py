"""A training checkpoint as a model folder that anybody opens: no data, no optimiser, one command."""

from pathlib import Path

import torch

from jepa_actions.errors import CheckpointError
from jepa_actions.models import WorldModel, WorldModelConfig
from jepa_actions.models.backbone import FrameBackbone
from jepa_actions.models.saved_codec import decode_codec
from jepa_actions.models.serialize import decode, load_weights
from jepa_actions.training.checkpoint import checkpoint_folders
from jepa_actions.training.resume import faults_of, find_checkpoint, read_state


def convert_checkpoint(source: str | Path, out: str | Path, *, step: int | None = None) -> Path:
    """Write the model of a training checkpoint as a model folder (`WorldModel.from_pretrained`).

    Args:
        source: a run's folder, of which the newest checkpoint is taken, or that of a `step`; or `step-NNNNNNN` itself.
        out: the folder to write; must not hold anything yet.
        step: of a run's folder.

    Raises:
        CheckpointError: for no checkpoint, a damaged one (naming the file), one of before models were described in it,
            or an `out` that is not empty.
    """
    folder, target = _checkpoint(Path(source), step), Path(out)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise CheckpointError(f"{target}: is not empty, expected a folder that does not exist yet")
    state = read_state(folder)
    described = state.get("model")
    if not isinstance(described, dict) or not {"config", "codec"} <= set(described):
        raise CheckpointError(
            f"{folder / 'state.json'}: does not describe its model (it is of version {state['version']}); resume the "
            "run, which writes one that does"
        )
    where = f"{folder / 'state.json'}: "
    config = decode(WorldModelConfig, described["config"], f"{where}model.config")
    codec = decode_codec(described["codec"], f"{where}model.codec")
    frozen = None if config.backbone is None else FrameBackbone(config.backbone, pretrained=False)
    double = state["config"]["train"].get("dtype") == "float64"
    model = WorldModel(config, codec, backbone=frozen).to(torch.float64 if double else torch.float32)
    load_weights(model, folder / "model.safetensors")
    extra = {"recipe": state["config"], "data": described.get("data", {}), "step": state["step"]}
    model.eval().float().save_pretrained(target, extra=extra)
    return target


def is_run(source: str | Path) -> bool:
    """Whether this is the folder of a run or of a checkpoint."""
    return any((Path(source) / name).exists() for name in ("checkpoints", "state.json"))


def _checkpoint(source: Path, step: int | None) -> Path:
    """The checkpoint that is meant, whole."""
    if (source / "state.json").is_file():
        if step is not None:
            raise CheckpointError(f"{source}: is a checkpoint, so it has no step {step}; expected a run's folder")
        faults = faults_of(source)
        if faults:
            raise CheckpointError(f"{source}: damaged, {'; '.join(faults)}")
        return source
    if not checkpoint_folders(source):
        raise CheckpointError(f"{source}: found no checkpoints/step-*, expected the folder of a run or of a checkpoint")
    found = find_checkpoint(source, step)
    assert found is not None  # there are some
    return found
