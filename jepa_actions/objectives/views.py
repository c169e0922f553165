"""The encodings that objectives share, each computed once per batch and only when asked for."""

from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from jepa_actions.data import Batch
from jepa_actions.models import WorldModel
from jepa_actions.models.encoder import VideoEncoder
from jepa_actions.nn import gather_rows


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
    """

    def __init__(self, model: WorldModel, batch: Batch, target: TargetEncoder | None = None) -> None:
        self.model, self.batch, self.target = model, batch, target

    @cached_property
    def images(self) -> dict[str, Float[Tensor, "b t c h w"]]:
        """Normalised frames per camera."""
        return self.model.images(self.batch.frames)

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
        images, real = [self.images[camera] for camera in self.model.config.cameras], self.batch.frame_mask
        clips = torch.cat(images if real is None else [image[real.all(1)] for image in images])
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
        if self.batch.action_mask is None:
            raise ValueError("this objective needs actions, but the batch has none")
        return self.batch.action_mask.to(torch.float32)


def masked_mean(values: Float[Tensor, "*s"], mask: Float[Tensor, "*s"]) -> Float[Tensor, ""]:
    """Mean over the places of all processes where mask is 1, once DDP has averaged; 0 where there is none.

    Processes may hold different numbers of known places: each divides by their mean number, not by its own.
    """
    known = gather_rows(mask.sum()[None])
    return (values * mask).sum() / known.mean().clamp(min=1.0 / len(known))
