"""The model a run starts from: new weights, those of a saved model, or V-JEPA 2's published ones."""

from collections.abc import Sequence
from dataclasses import asdict

from jepa_actions.data import ActionCodec
from jepa_actions.errors import CheckpointError, ConfigError
from jepa_actions.models import Architecture, FrameBackbone, WorldModel, WorldModelConfig, load_vjepa2

PUBLISHED = "vjepa2:"
GIVEN = ("encoder", "predictor", "pooler")
LEARNED = ("dynamics", "inverse", "distance")  # what `init` gives only where asked


def start_model(
    config: WorldModelConfig,
    codec: ActionCodec | None,
    init: str | None,
    keep: Sequence[str] = (),
    given: Sequence[str] = GIVEN,
) -> WorldModel:
    """A model of the recipe, with the weights that `init` names.

    Args:
        config: the recipe's model.
        codec: of its actions; None where there are none.
        init: a model folder or Hub id, which gives encoder, predictor and pooler (or what `given` names); `vjepa2:` and
            a folder, a Hub id or a `.pt` of V-JEPA 2, which gives encoder and predictor; None gives nothing.
        given: the parts that a model folder gives; what is not named starts anew.
        keep: more parts that a model folder gives, as they are; with dynamics or inverse head its codec too.

    Raises:
        ConfigError: for an `init` of another architecture, naming each difference, or no V-JEPA 2 weights.
        CheckpointError: for an `init` that is no model folder.
    """
    whole = init is not None and not init.startswith(PUBLISHED) and config.backbone is None
    if tuple(given) != GIVEN and not whole:
        raise ConfigError(
            f"init_parts: found {', '.join(given) or 'none'} with init {init}, expected all of {', '.join(GIVEN)}: "
            "only a model folder gives single ones"
        )
    if config.backbone is not None and init is not None:
        if init.startswith(PUBLISHED):
            raise ConfigError(f"init: {init} has weights for model.encoder, but the recipe has model.backbone")
        return _start_frozen(config, codec, init, keep)
    if init is None or init.startswith(PUBLISHED):
        if set(keep) & set(LEARNED):
            raise ConfigError(f"train.freeze {', '.join(keep)}: found init {init}, expected a model folder with them")
        model = WorldModel(config, codec)
        if init is not None:
            _start_published(model, init.removeprefix(PUBLISHED))
        return model
    source = WorldModel.from_pretrained(init)
    model = WorldModel(config, source.codec if set(keep) & set(LEARNED) else codec)
    if source.config.backbone is not None:
        raise ConfigError(f"init: model.backbone is {source.config.backbone.name} there, null in the recipe")
    _check_same(source.config, model.config, (*given, "image"))
    for part in given:
        getattr(model, part).load_state_dict(getattr(source, part).state_dict())
    _copy_learned(keep, source, model)
    return model


def _copy_learned(keep: Sequence[str], source: WorldModel, model: WorldModel) -> None:
    for part in LEARNED:
        if part in keep:
            _copy_part(part, source, model)


def _copy_part(part: str, source: WorldModel, model: WorldModel) -> None:
    there, here = getattr(source, part), getattr(model, part)
    if there is None or here is None or getattr(source.config, part) != getattr(model.config, part):
        raise ConfigError(
            f"init: model.{part} is {getattr(source.config, part) if there is not None else None} there, "
            f"{getattr(model.config, part)} in the recipe, expected the same (train.freeze has {part})"
        )
    here.load_state_dict(there.state_dict())


def _start_published(model: WorldModel, source: str) -> None:
    """Give encoder and predictor V-JEPA 2's weights; the picture size is the recipe's."""
    config = model.config
    try:
        found = load_vjepa2(
            source, architecture=Architecture(config.encoder, config.predictor), image_size=config.encoder.image_size
        )
    except CheckpointError as error:
        raise ConfigError(f"init: {error}") from error
    if found.image != config.image:
        raise ConfigError(f"init: V-JEPA 2 expects model.image {found.image}, found {config.image} in the recipe")
    for part in ("encoder", "predictor"):  # the tensors themselves, not copies
        getattr(model, part).load_state_dict(getattr(found, part).state_dict(), assign=True)


def _start_frozen(config: WorldModelConfig, codec: ActionCodec | None, init: str, keep: Sequence[str]) -> WorldModel:
    """The backbone, the pooler and `keep` of a saved model, where the recipe's encoder is a frozen backbone."""
    source = WorldModel.from_pretrained(init)
    if not isinstance(source.encoder, FrameBackbone):
        raise ConfigError(
            f"init: model.backbone is null there, {config.backbone.name if config.backbone else None} in the recipe"
        )
    model = WorldModel(config, source.codec if set(keep) & set(LEARNED) else codec, backbone=source.encoder)
    _check_same(source.config, model.config, ("backbone", "pooler"))
    model.pooler.load_state_dict(source.pooler.state_dict())
    _copy_learned(keep, source, model)
    return model


def _check_same(before: WorldModelConfig, now: WorldModelConfig, parts: Sequence[str]) -> None:
    """Weights only mean the same in the same architecture; the picture size alone may differ."""
    frozen = now.backbone is not None
    for part in parts:
        there, here = asdict(getattr(before, part)), asdict(getattr(now, part))
        changed = [
            f"model.{part}.{key} is {there[key]!r} there, {here[key]!r} in the recipe"
            for key in here
            if key not in (("weights",) if frozen else ("image_size",)) and there[key] != here[key]
        ]
        if changed:
            raise ConfigError(f"init: {'; '.join(changed)}")
