"""The encodings that objectives share, each computed once per batch and only when asked for."""

from functools import cached_property

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from jepa_actions.data import Batch
from jepa_actions.models import WorldModel
from jepa_actions.models.encoder import VideoEncoder
from jepa_actions.nn import Share, gather_rows
from jepa_actions.objectives.global_batch import GlobalBatch, global_batch


class TargetEncoder(nn.Module):
    """A copy of encoder and pooler that gives targets without gradient; `training.Ema` moves it.

    A frozen backbone never moves, so it has no copy: `encoder` is then None.
    """

    def __init__(self, encoder: VideoEncoder | None, pooler: nn.Module) -> None:
        super().__init__()
        self.encoder, self.pooler = encoder, pooler


class Views:
    """One batch and its encodings.

    Two passes share the encoder's weights: the control pass encodes each frame alone (`z`); the masked pass encodes
    clips jointly, visible tokens online and all tokens by the target (`target_tokens`).

    Args:
        batch: this part's clips.
        share: which part of the global batch they are; None: this process's.
        whole: what is known of all clips of the global batch; None gathers it from the processes.
    """

    def __init__(
        self,
        model: WorldModel,
        batch: Batch,
        target: TargetEncoder | None = None,
        share: Share | None = None,
        whole: GlobalBatch | None = None,
    ) -> None:
        self.model, self.batch, self.target = model, batch, target
        self.share = Share.of_process() if share is None else share
        if whole is not None:
            self.whole = whole

    @cached_property
    def whole(self) -> GlobalBatch:
        """Labels and masks of all clips of the global batch."""
        return global_batch(self.batch)

    @cached_property
    def images(self) -> dict[str, Float[Tensor, "b t c h w"]]:
        """Normalised frames per camera, in the precision of a model that computes in float64."""
        images = self.model.images(self.batch.frames)
        double = next(self.model.parameters()).dtype == torch.float64
        return {camera: image.double() for camera, image in images.items()} if double else images

    @cached_property
    def tokens(self) -> dict[str, Float[Tensor, "b t p d"]]:
        """The online encoder's tokens per camera, each frame encoded alone; a frozen encoder's may come cached."""
        return self.model.tokens_of(self.images) if self.batch.tokens is None else self.batch.tokens

    @cached_property
    def z(self) -> Float[Tensor, "b t n d"]:
        """Latent states, each frame encoded alone, with gradient; a frozen encoder's and pooler's may come cached."""
        return self.model.pooled(self.tokens) if self.batch.z is None else self.batch.z

    @cached_property
    def distance_rows(self) -> Float[Tensor, "f e"]:
        """What the temporal distance is taken between, for all `b * t` frames, without gradient."""
        assert self.model.distance is not None
        with torch.no_grad():
            return self.model.distance.embed(self.z.detach().flatten(0, 1))

    @cached_property
    def z_target(self) -> Float[Tensor, "b t n d"]:
        """The target encoder's latent states, without gradient."""
        if self.target is None:
            raise ValueError("an objective asks for EMA targets, but the recipe keeps none (train.ema)")
        if self.batch.z is not None:  # frozen: the copy is encoder and pooler
            return self.batch.z
        encoder = self.target.encoder
        with torch.no_grad():
            if encoder is None or self.batch.tokens is not None:  # frozen: the copy is the encoder
                tokens = self.tokens
            else:
                tokens = {camera: encoder.encode_each(images) for camera, images in self.images.items()}
            return self.model.pooled(tokens, self.target.pooler)

    @cached_property
    def clips(self) -> Float[Tensor, "v t c h w"]:
        """Clips of all cameras, cameras folded into the batch; an odd last frame that fills no tubelet is left out.

        So are clips with padding: a repeated frame that is hidden would be no riddle.
        """
        images = [self.images[camera] for camera in self.model.config.cameras]
        mine = self.share.mine(self.whole.whole_clips)
        if not mine.all():
            rows = mine.nonzero()[:, 0].to(self.batch.frame.device)
            images = [image[rows] for image in images]
        clips = torch.cat(images)
        tubelet = self.model.config.encoder.tubelet
        return clips[:, : clips.shape[1] // tubelet * tubelet]

    def target_tokens(self, clips: Float[Tensor, "v t c h w"]) -> Float[Tensor, "v n d"]:
        """Layer-normed features of every token of the clips, by the target encoder, without gradient."""
        if self.target is None or self.target.encoder is None:
            raise ValueError("an objective asks for EMA targets, but the recipe keeps none (train.ema)")
        with torch.no_grad():
            tokens = self.target.encoder(clips)
            return F.layer_norm(tokens, tokens.shape[-1:])

    def step_mask(self) -> Float[Tensor, "b t-1"]:
        """1 where a step's action is known."""
        return self.share.mine(self.known_steps())

    def known_steps(self) -> Float[Tensor, "B t-1"]:
        """`step_mask` of all clips of the global batch, for `mean`."""
        if self.whole.action_mask is None:
            raise ValueError("this objective needs actions, but the batch has none")
        return self.whole.action_mask.to(torch.float32)

    def mean(self, values: Float[Tensor, "b *s"], known: Shaped[Tensor, "B *s"]) -> Float[Tensor, ""]:
        """This part of the mean over all places of the global batch where `known` is 1; 0 where there is none.

        The mean of all parts' is the mean that one process finds, however unevenly known places lie among them.
        """
        known = known.to(torch.float32)
        total = (values * self.share.mine(known)).sum()
        return total / (known.sum().to(total.dtype).clamp(min=1.0) / self.share.of)


def masked_mean(values: Float[Tensor, "*s"], mask: Float[Tensor, "*s"]) -> Float[Tensor, ""]:
    """Mean over the places of all processes, weighted by mask, once DDP has averaged; 0 where there is none.

    For weights that only their own process knows, where `Views.mean` cannot be asked: each process divides by their
    mean sum, not by its own. It knows processes alone, no parts of a process (`train.accumulate`).
    """
    known = gather_rows(mask.sum()[None])
    return (values * mask).sum() / known.mean().clamp(min=1.0 / len(known))
