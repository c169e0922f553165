"""From a recipe's data section to a data set, its split and its codec."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from jepa_actions.data import (
    ActionCodec,
    Concat,
    EpisodeStream,
    Provenance,
    Resampled,
    Segment,
    Split,
    VideoDataset,
    WithLabels,
    load_dataset,
    missing,
    split_blocks,
    split_by_episode,
    split_folds,
    split_tail,
)
from jepa_actions.data.checks.quarantine import quarantine
from jepa_actions.envs.worlds import WORLDS
from jepa_actions.errors import ConfigError, DataError
from jepa_actions.training.config import DataConfig, LabelsConfig, SplitConfig, StreamConfig
from jepa_actions.training.world_data import world_dataset


@dataclass
class OpenData:
    """A data set with its training and held-out stretches; for an environment the two are data sets of their own.

    `notes` is what a saved model tells of its data: episodes that were left out, how much was labelled.
    """

    dataset: VideoDataset
    train: tuple[Segment, ...]
    heldout_dataset: VideoDataset
    heldout: tuple[Segment, ...]
    codec: ActionCodec | None
    notes: dict[str, Any] = field(default_factory=dict)
    stream: EpisodeStream | None = None  # where training reads from front to back: `dataset` is then its beginning


def open_data(config: DataConfig, image_size: tuple[int, int], cameras: tuple[str, ...] | None = None) -> OpenData:
    """Open the recipe's data sets, split them, hide labels where asked, and fit the action codec on the training part.

    Args:
        config: the recipe's data section.
        image_size: height and width that frames are resized to on decode.
        cameras: the model's cameras; None takes those of the data set.

    Raises:
        DataError: for an unknown environment, or a data set that is not what it should be.
    """
    notes: dict[str, Any] = {}
    if config.path.startswith("env:"):
        world = _environment(config)
        dataset: VideoDataset = world_dataset(world, config.env)
        heldout: VideoDataset = world_dataset(world, config.env, heldout=True)
        data = OpenData(dataset, whole_episodes(dataset), heldout, whole_episodes(heldout), None, notes)
    elif config.stream is not None:
        data = _open_stream(config, config.stream, image_size, cameras)
    else:
        own = [_open(path, config, image_size, cameras, notes) for path in (config.path, *config.also)]
        dataset = own[0] if len(own) == 1 else Concat(own)
        split = make_split(dataset, config.split)
        data = OpenData(dataset, split.train, dataset, split.heldout, None, notes)
    _hide_labels(data, config)
    if config.video:
        _add_video(data, config, image_size)
    if config.labels and has_actions(data.dataset, config):
        data.codec = fit_codec(data.dataset, data.train, config)
    return data


def _environment(config: DataConfig) -> str:
    name = config.path.removeprefix("env:")
    if name not in WORLDS:
        known = ", ".join(f"env:{world}" for world in WORLDS)
        raise DataError(f"data.path: environment {config.path!r} is not known; there is {known}")
    for key in ("also", "fps", "skip_bad", "stream"):
        if getattr(config, key):
            raise ConfigError(f"data.{key} is for recordings, found {getattr(config, key)!r} with {config.path}")
    return name


def _open_stream(
    config: DataConfig, options: StreamConfig, image_size: tuple[int, int], cameras: Sequence[str] | None
) -> OpenData:
    """A stream, and as data sets its first episodes and those of the split that is held out."""
    for name in ("also", "video", "fps", "skip_bad", "pad", "latents", "scene_clips"):
        if getattr(config, name):
            raise ConfigError(f"data.{name}: found {getattr(config, name)!r}, not possible with data.stream")
    if config.label != LabelsConfig() or config.cache != "none":
        raise ConfigError("data.label and data.cache: not possible with data.stream, leave them out")
    stream = EpisodeStream(config.path, split=options.split, cameras=cameras, image_size=image_size)
    labelled = config.labels and (stream.action_names or stream.proprio_names) is not None
    first = stream.first(options.fit_episodes, labelled=labelled)
    if options.heldout is None:
        return OpenData(first, whole_episodes(first), first, (), None, stream=stream)
    other = EpisodeStream(config.path, split=options.heldout, cameras=cameras, image_size=image_size)
    heldout = other.first(options.heldout_episodes, labelled=False)
    return OpenData(first, whole_episodes(first), heldout, whole_episodes(heldout), None, stream=stream)


def _open(
    path: str,
    config: DataConfig,
    image_size: tuple[int, int],
    cameras: Sequence[str] | None,
    notes: dict[str, Any],
) -> VideoDataset:
    """One recording of the recipe, without its bad episodes and at the recipe's rate, where these are asked for."""
    options: dict[str, Any] = {
        "cameras": cameras,
        "image_size": image_size,
        "action": config.action.column,
        "pseudo": config.label.pseudo,
        "state": config.action.state,
        "revision": config.revision if path == config.path else None,
        "disk_limit": None if config.disk_limit is None else int(config.disk_limit * 1e9),
    }
    if config.skip_bad:
        kept = quarantine(path, **options)
        notes.setdefault("skipped", {})[path] = kept.skipped
        dataset: VideoDataset = kept
    else:
        dataset = load_dataset(path, **options)
    if config.fps is not None:
        dataset = Resampled(dataset, config.fps, actions=config.resample)
    return dataset


def _hide_labels(data: OpenData, config: DataConfig) -> None:
    """Keep the labels of a few training episodes; what is held out stays labelled, for evaluation alone."""
    if config.label.episodes is None:
        return
    among = {segment.episode for segment in data.train}
    few = WithLabels(data.dataset, config.label.episodes, config.label.seed, among=among)
    data.dataset = few
    data.notes["labelled"] = {**few.count(), "shown": list(few.shown), "of": len(among)}
    print(f"{few.name}: labels of {len(few.shown)} of {len(among)} training episodes ({few.count()['seconds']:g} s)")


def _add_video(data: OpenData, config: DataConfig, image_size: tuple[int, int]) -> None:
    """More video to train on, without labels."""
    bare = [_open(path, config, image_size, None, data.notes) for path in config.video]
    own = len(data.dataset)
    data.dataset = Concat([data.dataset], video=bare)
    data.train += tuple(segment for segment in whole_episodes(data.dataset) if segment.episode >= own)


def fit_codec(dataset: VideoDataset, segments: Sequence[Segment], config: DataConfig) -> ActionCodec:
    """The action codec that the recipe describes, with the statistics of the labelled steps of these stretches."""
    action = config.action
    provenance: tuple[Provenance, ...] = (
        (Provenance.LATENT,) if action.column.startswith("latent_") else (Provenance.TRUE,)
    )
    if action.pseudo:
        provenance += (Provenance.PSEUDO,)
    return ActionCodec.fit(
        dataset,
        segments,
        block=config.block,
        source=action.source,
        columns=action.columns,
        angles=action.angles,
        rotation=action.rotation,
        poses=action.poses,
        absolute=action.absolute,
        proprio_columns=action.proprio_columns,
        lag=action.lag,
        discrete=dict(zip(action.discrete, action.classes, strict=True)) if action.classes else action.discrete,
        normalise=dict.fromkeys(action.quantile_columns, "quantile") if action.quantile_columns else action.normalise,
        quantiles=action.quantiles,
        bounds=action.bounds,
        ball=action.ball,
        provenance=provenance,
    )


def has_actions(dataset: VideoDataset, config: DataConfig) -> bool:
    """Whether the data set holds what the recipe calls an action."""
    return missing(dataset, config.action.source) is None


def whole_episodes(dataset: VideoDataset) -> tuple[Segment, ...]:
    """Every episode from its first frame to its last."""
    return tuple(Segment(i, 0, int(length)) for i, length in enumerate(dataset.lengths()))


def make_split(dataset: VideoDataset, config: SplitConfig) -> Split:
    """The recipe's split of a recording."""
    lengths = dataset.lengths()
    match config.kind:
        case "episode":
            return split_by_episode(lengths, config.fraction, config.seed)
        case "tail":
            return split_tail(lengths, config.fraction, gap=config.gap)
        case "blocks":
            return split_blocks(lengths, config.blocks, config.fraction, config.gap)
        case "folds":
            return split_folds(len(lengths), config.folds, config.fold, lengths)
        case "none":
            return Split(whole_episodes(dataset), ())
