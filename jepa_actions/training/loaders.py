"""From open data to batches."""

from torch import Tensor

from jepa_actions.data import ClipIndex, ClipLoader, ClipStream, LatentCache, VideoDataset
from jepa_actions.errors import ConfigError
from jepa_actions.models import WorldModel
from jepa_actions.training.config import DataConfig, TrainConfig
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
        latents=latent_cache(options, data.dataset, index, model),
        workers=options.workers,
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
