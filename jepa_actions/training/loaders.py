"""From open data to batches."""

import numpy as np
from jaxtyping import Int64

from jepa_actions.data import ClipIndex, ClipLoader, ClipStream, LatentCache, VideoDataset
from jepa_actions.data.latents.cache import Latents
from jepa_actions.errors import ConfigError
from jepa_actions.models import WorldModel
from jepa_actions.training.config import DataConfig, TrainConfig
from jepa_actions.training.latents import encode_latents, encoder_of
from jepa_actions.training.sources import OpenData


def make_loader(
    config: TrainConfig, data: OpenData, model: WorldModel, *, rank: int = 0, world_size: int = 1
) -> ClipLoader | ClipStream:
    """The batches of a recipe, this rank's share of each.

    Raises:
        ConfigError: for a latent cache of an encoder that learns.
        DataError: where the data holds no clip, or none of a kind that a batch must have.
    """
    options = config.data
    if data.stream is not None and options.stream is not None:
        return ClipStream(
            data.stream,
            frames=options.frames,
            block=options.block,
            stride=options.stride,
            batch_size=config.train.batch_size,
            seed=config.seed,
            rank=rank,
            world_size=world_size,
            shuffle_buffer=options.stream.shuffle,
            codec=data.codec,
            fast_resume=options.stream.fast_resume,
        )
    index = ClipIndex(data.train, frames=options.frames, block=options.block, stride=options.stride, pad=options.pad)
    return ClipLoader(
        data.dataset,
        index,
        data.codec,
        batch_size=config.train.batch_size,
        seed=config.seed,
        rank=rank,
        world_size=world_size,
        cache="memory" if options.cache == "memory" else "none",
        labelled_fraction=options.label.fraction,
        latents=latents_of(config, data.dataset, index, model),
        pooled=_pooled(config),
        scenes=scenes_of(config.data, data.dataset) if options.scene_clips else None,
        per_scene=options.scene_clips,
        workers=options.workers,
    )


def scenes_of(options: DataConfig, dataset: VideoDataset) -> Int64[np.ndarray, "e"]:
    """The scene that each episode shows, as the recipe says (`data.scenes`).

    Raises:
        ConfigError: for `given` where the data set does not say.
    """
    if options.scenes == "episode":
        return np.arange(len(dataset), dtype=np.int64)
    if options.scenes == "one":
        return np.zeros(len(dataset), dtype=np.int64)
    given = getattr(dataset, "scenes", None)
    if given is None:
        raise ConfigError(
            f"data.scenes: {dataset.name} does not say which episodes show one scene; expected episode or one"
        )
    found: Int64[np.ndarray, "e"] = given()
    return found


def _every(options: DataConfig, index: ClipIndex) -> int:
    """By what all frame numbers of the clips can be divided: where clips begin whole blocks apart, the block."""
    aligned = options.stride % options.block == 0 and all(part.start % options.block == 0 for part in index.segments)
    return options.block if aligned else 1


def _pooled(config: TrainConfig) -> bool:
    """Whether z itself is cached: encoder and pooler are frozen."""
    return config.data.cache == "latents" and "pooler" in config.train.freeze


def latents_of(config: TrainConfig, dataset: VideoDataset, index: ClipIndex, model: WorldModel) -> Latents | None:
    """The tokens of a frozen encoder, where `data.cache` asks for them: in memory, or with `data.latents` on disk.

    They are made in float32, whatever the precision of training; on disk they are float16, and found again by hashes
    of encoder, transform and data.

    Raises:
        ConfigError: for a model whose encoder learns.
    """
    options = config.data
    if options.cache != "latents":
        if options.latents is not None:
            raise ConfigError(f"data.latents: found {options.latents!r}, expected data.cache latents with it")
        return None
    frozen = model.config.backbone is not None or (config.train.freeze_encoder and config.objectives.masked is None)
    if not frozen:
        raise ConfigError(
            "data.cache latents: the encoder learns, so its latents change; expected a model.backbone, or "
            "train.freeze_encoder without objectives.masked"
        )
    episodes = index.episodes().tolist()
    if options.latents is None:
        return LatentCache(dataset, encoder_of(model, pooled=_pooled(config)), episodes, every=_every(options, index))
    return encode_latents(model, dataset, options.latents, episodes=episodes, pooled=_pooled(config))
