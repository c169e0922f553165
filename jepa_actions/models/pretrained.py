"""Published V-JEPA 2 weights as our encoder and masked predictor (arXiv 2506.09985)."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import nn

from jepa_actions.errors import CheckpointError, JepaActionsError
from jepa_actions.models.architectures import ARCHITECTURES, Architecture, architecture
from jepa_actions.models.encoder import EncoderConfig, VideoEncoder
from jepa_actions.models.masked_predictor import MaskedPredictor, PredictorConfig
from jepa_actions.models.vjepa2_files import WeightFiles, open_weights
from jepa_actions.models.vjepa2_names import Stored, stored_as
from jepa_actions.models.world_model import WorldModel
from jepa_actions.models.world_model_config import ImageTransform, PoolerConfig, WorldModelConfig

M = TypeVar("M", bound=nn.Module)


@dataclass
class Pretrained:
    """Published weights in our modules, in evaluation mode, and what in their files was not used."""

    encoder: VideoEncoder
    predictor: MaskedPredictor
    image: ImageTransform
    source: str
    ignored: tuple[str, ...]

    def world_model(self, camera: str = "image") -> WorldModel:
        """A `WorldModel` around these modules (not copies), without actions: every patch is a latent token."""
        config = WorldModelConfig(
            cameras=(camera,),
            image=self.image,
            encoder=self.encoder.config,
            pooler=PoolerConfig(kind="patches", dim=self.encoder.config.width),
            predictor=self.predictor.config,
        )
        with torch.device("meta"):
            model = WorldModel(config)
        model.encoder, model.predictor = self.encoder, self.predictor
        model.extra = {"source": self.source, "ignored": list(self.ignored)}
        return model.eval()


def load_vjepa2(
    source: str | Path,
    *,
    architecture: str | Architecture | None = None,
    image_size: tuple[int, int] | None = None,
    which: Literal["target_encoder", "encoder"] = "target_encoder",
    revision: str | None = None,
) -> Pretrained:
    """Load V-JEPA 2's encoder and masked predictor. Nothing in the files runs, and each tensor is copied once.

    Args:
        source: a folder in the Hugging Face layout (`config.json` with one or several safetensors files), the Hub id
            of one (`facebook/vjepa2-vitl-fpc64-256`), or a `.pt` of the original release.
        architecture: a name in `ARCHITECTURES` or an `Architecture`. A folder says its own, which is then checked; a
            `.pt` does not, and needs one: its heads cannot be checked against anything.
        image_size: height and width in pixels to run at, where not the architecture's: no weight depends on it.
        which: the encoder of a `.pt` to take. The published evaluations use `target_encoder`, the moving average. The
            published `torch.hub` entries, from which the Hugging Face weights were converted, take `encoder`.
        revision: branch, tag or commit of a Hub id.

    Raises:
        CheckpointError: naming file and key, for weights of another architecture, a tensor that is missing, not
            expected, of another shape or not finite, and a `.pt` that `torch.load(weights_only=True)` refuses.
        ConfigError: for an architecture that has no such name.
    """
    files = open_weights(source, which, revision)
    asked = _architecture(files, architecture, checked_size=image_size is None)
    sized = asked.encoder if image_size is None else replace(asked.encoder, image_size=image_size)
    with torch.device("meta"):
        encoder, predictor = VideoEncoder(sized), MaskedPredictor(asked.predictor, sized)
    plan = _plan(files, {"encoder": encoder, "predictor": predictor})
    return Pretrained(
        encoder=_fill(encoder, "encoder", files, plan),
        predictor=_fill(predictor, "predictor", files, plan),
        image=ImageTransform(),
        source=str(source),
        ignored=files.ignored,
    )


def load_vjepa2_encoder(
    source: str | Path,
    *,
    architecture: str | Architecture | None = None,
    image_size: tuple[int, int] | None = None,
    which: Literal["target_encoder", "encoder"] = "target_encoder",
    revision: str | None = None,
) -> VideoEncoder:
    """The encoder alone, whatever predictor is beside it: V-JEPA 2-AC's release holds an action-conditioned one.

    Arguments and errors are those of `load_vjepa2`.
    """
    files = open_weights(source, which, revision, parts=("encoder",))
    asked = _architecture(files, architecture, checked_size=image_size is None).encoder
    with torch.device("meta"):
        encoder = VideoEncoder(asked if image_size is None else replace(asked, image_size=image_size))
    return _fill(encoder, "encoder", files, _plan(files, {"encoder": encoder}))


def convert_vjepa2(source: str | Path, folder: str | Path, **options: Any) -> Pretrained:
    """Write published weights as a model folder, which `WorldModel.from_pretrained` and a recipe's `init` open.

    Args:
        source: as for `load_vjepa2`.
        folder: must not hold anything yet.
        options: the other arguments of `load_vjepa2`.

    Raises:
        CheckpointError: as `load_vjepa2` does, or for a folder that is not empty.
    """
    out = Path(folder)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CheckpointError(f"{out}: expected a new or empty folder, found a {'folder' if out.is_dir() else 'file'}")
    found = load_vjepa2(source, **options)
    size = "x".join(map(str, found.encoder.config.image_size))
    card = f"# {out.name}\n\nEncoder and masked predictor of V-JEPA 2 at {size}, converted from `{source}`.\n"
    found.world_model().save_pretrained(out, card=card)
    return found


def _architecture(files: WeightFiles, asked: str | Architecture | None, checked_size: bool) -> Architecture:
    """What was asked for, which must be what the files say; or what the files say."""
    if isinstance(asked, str):
        asked = architecture(asked)
    if asked is None:
        if files.layout == "release":
            fits = [name for name, known in ARCHITECTURES.items() if not _differences(files, known, False)]
            names = f"one of {', '.join(fits)} fits its shapes" if fits else "none of those with a name fits its shapes"
            raise CheckpointError(
                f"{files.where}: does not say its heads and image size: pass an architecture; {names}"
            )
        return _from_facts(files)
    if asked.predictor.residual:
        raise CheckpointError(f"{files.where}: V-JEPA 2's predictor has no gate: expected predictor.residual false")
    differences = _differences(files, asked, checked_size)
    if differences:
        place = files.where / "config.json" if files.layout == "hugging_face" else files.where
        raise CheckpointError(f"{place}: {'; '.join(differences)}")
    return asked


def _from_facts(files: WeightFiles) -> Architecture:
    parts: dict[str, dict[str, Any]] = {"encoder": {}, "predictor": {}}
    for key, (_, value) in files.facts.items():
        part, _, name = key.partition(".")
        parts[part][name] = value
    try:
        return Architecture(EncoderConfig(**parts["encoder"]), PredictorConfig(**parts["predictor"]))
    except JepaActionsError as error:
        raise CheckpointError(f"{files.where / 'config.json'}: {error}") from error


def _differences(files: WeightFiles, asked: Architecture, checked_size: bool) -> list[str]:
    """Every field in which the files are of another architecture than was asked for."""
    found = []
    for key, (theirs, value) in files.facts.items():
        part, _, name = key.partition(".")
        expected = getattr(getattr(asked, part), name)
        if value != expected and (name != "image_size" or checked_size):
            found.append(f"{theirs} ({key}): expected {expected}, found {value}")
    places = asked.encoder.patches
    for name, tokens in files.pos_embed.items() if checked_size else ():
        if tokens % places:
            grid = "x".join(map(str, asked.encoder.grid))
            found.append(f"{name} (encoder.image_size): {tokens} tokens are no whole number of {grid} grids")
    return found


def _plan(files: WeightFiles, modules: dict[str, nn.Module]) -> dict[str, Stored]:
    """For each of our parameters the tensors it is made of; all of them are there, fit, and no other is."""
    plan: dict[str, Stored] = {}
    expected: dict[str, tuple[int, ...]] = {}
    for prefix, module in modules.items():
        stack = len(module.mask_tokens) if isinstance(module, MaskedPredictor) else 0
        for name, parameter in module.named_parameters(prefix):
            stored = stored_as(name, files.layout)
            if stored is None:
                raise CheckpointError(f"{files.where}: V-JEPA 2 has no parameter {name!r}")
            plan[name] = stored
            expected |= dict.fromkeys(stored.names, stored.shape(parameter.shape, stack))
    for name in expected:
        if name not in files.shapes:
            raise CheckpointError(f"{files.where}: tensor {name!r} is missing; expected shape {expected[name]}")
    for name, shape in files.shapes.items():
        if name not in expected:
            raise CheckpointError(f"{files.place(name)}: tensor {name!r} is not part of this architecture")
        if shape != expected[name]:
            raise CheckpointError(
                f"{files.place(name)}: tensor {name!r}: expected shape {expected[name]}, found {shape}"
            )
    return plan


def _fill(module: M, prefix: str, files: WeightFiles, plan: dict[str, Stored]) -> M:
    """Copy the weights into a module that has no storage yet; the model and one tensor are in memory, no more."""
    weights = {}
    for name, parameter in module.named_parameters():
        names, row = plan[f"{prefix}.{name}"].names, plan[f"{prefix}.{name}"].row
        weights[name] = torch.empty(parameter.shape, dtype=torch.float32)
        for part, stored in zip(weights[name].chunk(len(names)), names, strict=True):
            tensor = files.read(stored)
            if not tensor.is_floating_point():
                raise CheckpointError(
                    f"{files.place(stored)}: tensor {stored!r}: expected floats, found {tensor.dtype}"
                )
            part.copy_(tensor if row is None else tensor[row])
            if not bool(part.isfinite().all()):
                raise CheckpointError(f"{files.place(stored)}: tensor {stored!r} has values that are not finite")
    module.load_state_dict(weights, assign=True)
    return module.eval()
