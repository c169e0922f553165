"""From `data.path` to a data set, its split and its codec. `env:two_room` becomes behaviour data made on the spot."""

import hashlib
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Int, UInt8
from torch import Tensor, from_numpy

from jepa_actions.data import (
    ActionCodec,
    ClipIndex,
    Episode,
    FramesOnly,
    LatentCache,
    Segment,
    Split,
    VideoDataset,
    Viewable,
    combined,
    load_dataset,
    split_blocks,
    split_by_episode,
    split_folds,
    split_tail,
)
from jepa_actions.envs import TwoRoomConfig, TwoRoomEpisodes, generate_episodes, render
from jepa_actions.errors import ConfigError, DataError
from jepa_actions.models import WorldModel
from jepa_actions.training.config import DataConfig, EnvConfig, SplitConfig

HELDOUT_SEED = 1_000_003  # added to the seed of held-out behaviour, so that no episode is drawn twice


class TwoRoomDataset(Viewable):
    """Behaviour in TwoRoom as a video data set: positions are kept, frames are rendered when a clip is read."""

    name = "env:two_room"
    cameras = ("image",)
    fps = 10.0
    action_names = ("dx", "dy")
    proprio_names: tuple[str, ...] | None = None

    def __init__(self, episodes: TwoRoomEpisodes, config: TwoRoomConfig | None = None) -> None:
        self.episodes = episodes
        self.config = config or TwoRoomConfig()

    def image_size(self, camera: str) -> tuple[int, int]:
        return self.config.image_size, self.config.image_size

    def __len__(self) -> int:
        return len(self.episodes.positions)

    def lengths(self) -> np.ndarray:
        count, frames = self.episodes.positions.shape[:2]
        return np.full(count, frames, dtype=np.int64)

    def episode(self, i: int) -> Episode:
        return Episode(
            index=i,
            length=self.episodes.positions.shape[1],
            actions=self.episodes.actions[i].numpy(),
            dataset=self.name,
        )

    def states(self, episodes: Int[np.ndarray, "b"], frames: Int[np.ndarray, "b t"]) -> tuple[Tensor, Tensor, Tensor]:
        """True positions `(b, t, 2)` in px, wall x `(b,)` and door y `(b,)`; for evaluation only."""
        rows = from_numpy(np.asarray(episodes))
        positions = self.episodes.positions[rows[:, None], from_numpy(np.asarray(frames))]
        return positions, self.episodes.wall_x[rows], self.episodes.door_y[rows]

    def same_layout(self, one: int, other: int) -> bool:
        """Whether two episodes have the same wall and door."""
        e = self.episodes
        return bool(e.wall_x[one] == e.wall_x[other]) and bool(e.door_y[one] == e.door_y[other])

    def read_clips(
        self, episodes: Int[np.ndarray, "b"], frames: Int[np.ndarray, "b t"]
    ) -> dict[str, UInt8[Tensor, "b t c h w"]]:
        positions, wall_x, door_y = self.states(episodes, frames)
        steps = positions.shape[1]
        images = render(
            positions.flatten(0, 1), wall_x.repeat_interleave(steps), door_y.repeat_interleave(steps), self.config
        )
        return {"image": images.unflatten(0, positions.shape[:2])}

    def without_labels(self) -> VideoDataset:
        """The same frames without actions and without the positions they are drawn from: drawn once into memory."""
        return FramesOnly(self)

    def fingerprint(self) -> str:
        """Of every position, action and layout."""
        e = self.episodes
        parts = [tensor.contiguous().numpy().tobytes() for tensor in (e.positions, e.actions, e.wall_x, e.door_y)]
        return combined(self.name, asdict(self.config), [hashlib.sha256(part).hexdigest() for part in parts])


@dataclass
class OpenData:
    """A data set with its training and held-out stretches; for an environment the two are data sets of their own."""

    dataset: VideoDataset
    train: tuple[Segment, ...]
    heldout_dataset: VideoDataset
    heldout: tuple[Segment, ...]
    codec: ActionCodec | None


def open_data(config: DataConfig, image_size: tuple[int, int], cameras: tuple[str, ...] | None = None) -> OpenData:
    """Open `data.path`, split it, and fit the action codec on the training stretches.

    Args:
        config: the recipe's data section.
        image_size: height and width that frames are resized to on decode.
        cameras: the model's cameras; None takes those of the data set.

    Raises:
        DataError: for an unknown environment, or a data set that is not what it should be.
    """
    if config.path.startswith("env:"):
        if config.path != "env:two_room":
            raise DataError(f"data.path: environment {config.path!r} is not known; there is env:two_room")
        dataset: VideoDataset = two_room_dataset(config.env)
        heldout: VideoDataset = two_room_dataset(config.env, heldout=True)
        train_segments = whole_episodes(dataset)
        data = OpenData(dataset, train_segments, heldout, whole_episodes(heldout), None)
    else:
        dataset = load_dataset(config.path, cameras=cameras, image_size=image_size)
        split = make_split(dataset, config.split)
        data = OpenData(dataset, split.train, dataset, split.heldout, None)
    if config.labels and has_actions(data.dataset, config):
        data.codec = ActionCodec.fit(
            data.dataset,
            data.train,
            block=config.block,
            source=config.action.source,
            columns=config.action.columns,
            angles=config.action.angles,
            rotation=config.action.rotation,
            ball=config.action.ball,
        )
    return data


def has_actions(dataset: VideoDataset, config: DataConfig) -> bool:
    """Whether the data set holds what the recipe calls an action."""
    names = dataset.action_names if config.action.source == "action" else dataset.proprio_names
    return names is not None


def two_room_dataset(config: EnvConfig, *, heldout: bool = False) -> TwoRoomDataset:
    """Behaviour episodes of TwoRoom; held-out ones live in layouts that training never sees."""
    return TwoRoomDataset(
        generate_episodes(
            config.heldout_episodes if heldout else config.episodes,
            steps=config.steps,
            seed=config.seed + (HELDOUT_SEED if heldout else 0),
            crossing_rate=config.crossing_rate,
            layouts="heldout" if heldout else "train",
            episodes_per_layout=config.episodes_per_layout,
        )
    )


def latent_cache(config: DataConfig, dataset: VideoDataset, index: ClipIndex, model: WorldModel) -> LatentCache | None:
    """The tokens of the model's frozen backbone, kept in memory, where `data.cache` asks for it.

    They are made in float32, whatever the precision of training.

    Raises:
        ConfigError: for a model whose encoder learns.
    """
    if config.cache != "latents":
        return None
    if model.config.backbone is None:
        raise ConfigError("data.cache latents: the encoder learns, so its latents change; expected a model.backbone")

    def encode(frames: dict[str, Tensor]) -> dict[str, Tensor]:
        device = next(model.encoder.parameters()).device
        return model.tokens_of(model.images({camera: image.to(device) for camera, image in frames.items()}))

    return LatentCache(dataset, encode, index.episodes().tolist())


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
