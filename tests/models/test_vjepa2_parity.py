"""The same numbers as V-JEPA 2: as `transformers` where it is right, as the formulas written out where it is not.

In its release 5.23 the encoder takes no masks, two mask lists crash the predictor, three frames silently become two,
and grids that are not square get positions of square ones.
"""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from jepa_actions.errors import ShapeError
from jepa_actions.models import EncoderConfig, MaskedPredictor, PredictorConfig, VideoEncoder, load_vjepa2, take_tokens
from jepa_actions.nn import grid_positions, rotary_table

TOLERANCE = 1e-5
# Head widths 16, 64, 24, 10 and others: three axes do not share most of them evenly.
SIZES = {
    "three heads": {"hidden_size": 48, "num_attention_heads": 3, "pred_hidden_size": 32, "pred_num_attention_heads": 2},
    "one wide head": {
        "hidden_size": 64,
        "num_attention_heads": 1,
        "pred_hidden_size": 40,
        "pred_num_attention_heads": 4,
    },
    "ViT-g's mlp": {"hidden_size": 96, "num_attention_heads": 4, "pred_hidden_size": 24, "mlp_ratio": 48 / 11},
    "frames alone": {"hidden_size": 24, "num_attention_heads": 2, "pred_hidden_size": 24, "tubelet_size": 1},
}


def perturb(module: torch.nn.Module, seed: int = 0) -> None:
    """Move every parameter, biases, norms and mask tokens too, away from where it starts."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


@pytest.fixture(scope="module", params=SIZES)
def pair(request, tmp_path_factory):
    """A random model of `transformers`, and what our loader makes of the folder it saves."""
    from transformers import VJEPA2Config, VJEPA2Model

    sizes = {"pred_num_attention_heads": 2} | SIZES[request.param]
    config = VJEPA2Config(
        patch_size=8, crop_size=32, num_hidden_layers=3, pred_num_hidden_layers=2, frames_per_clip=4, **sizes
    )
    theirs = VJEPA2Model(config).eval()
    perturb(theirs)
    folder: Path = tmp_path_factory.mktemp("weights")
    theirs.save_pretrained(folder)
    return theirs, load_vjepa2(folder)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def some(batch: int, tokens: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random token numbers, unsorted, to see and to predict; a few are neither."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.stack([torch.randperm(tokens, generator=generator) for _ in range(batch)])
    return order[:, : tokens // 2], order[:, tokens // 2 : tokens - 2]


@pytest.mark.parametrize(("batch", "frames"), [(1, 1), (3, 2), (2, 4), (1, 8)])
@torch.no_grad()
def test_as_transformers(pair, batch, frames):
    theirs, ours = pair
    clip = noise(batch, frames, 3, 32, 32)
    visible, target = some(batch, max(1, frames // theirs.config.tubelet_size) * 16)
    expected = theirs(clip, context_mask=[visible], target_mask=[target])
    tokens = ours.encoder(clip)
    assert (tokens - expected.last_hidden_state).abs().max() <= TOLERANCE
    predicted = ours.predictor(take_tokens(tokens, visible), visible, target, "long")  # the token they always take
    assert (predicted - expected.predictor_output.last_hidden_state).abs().max() <= TOLERANCE
    assert expected.last_hidden_state.std() > 0.3
    assert expected.predictor_output.last_hidden_state.std() > 0.1


@torch.no_grad()
def test_every_mask_token_is_theirs(pair):
    theirs, ours = pair
    tokens, (visible, target) = noise(2, 8, theirs.config.hidden_size), some(2, 16)
    table = theirs.predictor.embeddings.mask_tokens
    for number in range(table.shape[0]):
        theirs.predictor.embeddings.mask_tokens = torch.nn.Parameter(table.roll(1 - number, 0))  # they always take 1
        padded = torch.zeros(2, 16, tokens.shape[-1]).scatter(1, visible[..., None].expand_as(tokens), tokens)
        expected = theirs.predictor(padded, [visible], [target]).last_hidden_state
        predicted = ours.predictor(tokens, visible, target, "short", mask_token=number)
        assert (predicted - expected).abs().max() <= TOLERANCE
    theirs.predictor.embeddings.mask_tokens = table
    kinds = {"short": 0, "long": 1, "future": 2}
    for kind, number in kinds.items():
        by_number = ours.predictor(tokens, visible, target, "short", mask_token=number)
        assert torch.equal(ours.predictor(tokens, visible, target, kind), by_number)


# -- where transformers is no reference --------------------------------------------------------------------------------


def naive_rotation(vector: Tensor, position: tuple[int, int, int]) -> Tensor:
    """One head's channels of one token, channel by channel, as V-JEPA 2's code turns them."""
    share = 2 * ((len(vector) // 3) // 2)
    out = vector.clone()
    for axis, place in enumerate(position):
        for j in range(share):
            angle = place / 10000 ** ((j % (share // 2)) / (share // 2))
            i = axis * share + j
            partner = -vector[i + 1] if j % 2 == 0 else vector[i - 1]
            out[i] = vector[i] * math.cos(angle) + partner * math.sin(angle)
    return out


def naive_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    mean = x.mean(-1, keepdim=True)
    variance = ((x - mean) ** 2).mean(-1, keepdim=True)
    return (x - mean) / (variance + 1e-6).sqrt() * weight + bias


def naive_blocks(weights: dict[str, Tensor], x: Tensor, positions: list[tuple[int, int, int]], heads: int) -> Tensor:
    """All blocks and the last norm on the tokens of one sample, in double precision."""
    for layer in range(sum(key.endswith("norm1.weight") for key in weights)):
        w = {key.removeprefix(f"blocks.{layer}."): value for key, value in weights.items()}
        q, k, v = (
            naive_norm(x, w["norm1.weight"], w["norm1.bias"]) @ w["attn.qkv.weight"].T + w["attn.qkv.bias"]
        ).chunk(3, -1)
        answers = []
        for head in range(heads):
            part = slice(head * (x.shape[1] // heads), (head + 1) * (x.shape[1] // heads))
            turned_q, turned_k = (
                torch.stack([naive_rotation(row, place) for row, place in zip(side[:, part], positions, strict=True)])
                for side in (q, k)
            )
            scores = turned_q @ turned_k.T / math.sqrt(turned_q.shape[1])
            answers.append(scores.softmax(-1) @ v[:, part])
        x = x + torch.cat(answers, -1) @ w["attn.proj.weight"].T + w["attn.proj.bias"]
        hidden = naive_norm(x, w["norm2.weight"], w["norm2.bias"]) @ w["mlp.fc1.weight"].T + w["mlp.fc1.bias"]
        hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
        x = x + hidden @ w["mlp.fc2.weight"].T + w["mlp.fc2.bias"]
    return naive_norm(x, weights["norm.weight"], weights["norm.bias"])


def doubles(module: torch.nn.Module) -> dict[str, Tensor]:
    return {key: value.double() for key, value in module.state_dict().items()}


def naive_encoder(model: VideoEncoder, clip: Tensor, visible: list[int]) -> Tensor:
    """The visible tokens of one clip `(t, c, h, w)`."""
    config, weights = model.config, doubles(model)
    (rows, cols), size, tubelet = config.grid, config.patch, config.tubelet
    tokens, positions = [], []
    for number in visible:
        time, row, col = number // (rows * cols), number // cols % rows, number % cols
        cell = clip[
            time * tubelet : (time + 1) * tubelet, :, row * size : (row + 1) * size, col * size : (col + 1) * size
        ]
        filters = weights["patch_embed.proj.weight"]  # (width, c, t, h, w)
        tokens.append((filters * cell.double().transpose(0, 1)).flatten(1).sum(1) + weights["patch_embed.proj.bias"])
        positions.append((time, row, col))
    return naive_blocks(weights, torch.stack(tokens), positions, config.heads)


@pytest.fixture(scope="module")
def wide() -> tuple[VideoEncoder, MaskedPredictor]:
    """A picture of 2 rows and 5 columns of patches; three blocks, so that hidden tokens could reach visible ones."""
    torch.manual_seed(0)
    config = EncoderConfig(image_size=(8, 20), patch=4, tubelet=2, width=32, depth=3, heads=2)
    modules = VideoEncoder(config).eval(), MaskedPredictor(PredictorConfig(width=20, depth=2, heads=2), config).eval()
    for seed, module in enumerate(modules):
        perturb(module, seed)
    return modules


@torch.no_grad()
def test_a_grid_that_is_not_square_has_its_own_rows_and_columns(wide):
    encoder, predictor = wide
    clip = noise(2, 4, 3, 8, 20)
    tokens = encoder(clip)
    for sample in range(2):
        assert (tokens[sample] - naive_encoder(encoder, clip[sample], list(range(20)))).abs().max() <= TOLERANCE
    visible, target = some(2, 20)
    predicted = predictor(take_tokens(tokens, visible), visible, target, "long")
    weights = doubles(predictor)
    for sample in range(2):
        seen = tokens[sample, visible[sample]].double() @ weights["predictor_embed.weight"].T
        asked = weights["mask_tokens.1"][0].expand(target.shape[1], -1)
        numbers = [*visible[sample].tolist(), *target[sample].tolist()]
        x = torch.cat([seen + weights["predictor_embed.bias"], asked])
        x = naive_blocks(weights, x, [(n // 10, n // 5 % 2, n % 5) for n in numbers], 2)[visible.shape[1] :]
        expected = x @ weights["predictor_proj.weight"].T + weights["predictor_proj.bias"]
        assert (predicted[sample] - expected).abs().max() <= TOLERANCE


@torch.no_grad()
def test_visible_tokens_alone_are_the_full_encoding_that_cannot_look_at_hidden_ones(wide):
    encoder, _ = wide
    clip, (visible, _) = noise(2, 4, 3, 8, 20), some(2, 20)
    rotary = rotary_table(grid_positions(2, 2, 5), 16, tiled=True)
    seen = torch.zeros(2, 20, dtype=torch.bool).scatter(1, visible, True)
    x = encoder.patch_embed(clip)
    for block in encoder.blocks:
        x = block(x, rotary, seen[:, None, None, :].expand(-1, 1, 20, -1))
    expected = take_tokens(encoder.norm(x), visible)
    out = encoder(clip, visible)
    assert (out - expected).abs().max() <= TOLERANCE
    for sample in range(2):
        assert (out[sample] - naive_encoder(encoder, clip[sample], visible[sample].tolist())).abs().max() <= TOLERANCE
    assert (out - take_tokens(encoder(clip), visible)).abs().max() > 0.01  # gathering afterwards is something else


@torch.no_grad()
def test_several_masks_of_one_clip_are_as_many_clips(wide):
    encoder, predictor = wide
    clip, masks = noise(2, 4, 3, 8, 20), [some(2, 20, seed) for seed in range(3)]
    visible, target = (torch.cat(ids) for ids in zip(*masks, strict=True))
    tokens = encoder(clip.repeat(3, 1, 1, 1, 1), visible)
    predicted = predictor(tokens, visible, target, "short")
    for i, (one_visible, one_target) in enumerate(masks):
        alone = encoder(clip, one_visible)
        assert (tokens[2 * i : 2 * i + 2] - alone).abs().max() <= TOLERANCE
        answer = predictor(alone, one_visible, one_target, "short")
        assert (predicted[2 * i : 2 * i + 2] - answer).abs().max() <= TOLERANCE


@pytest.mark.parametrize("frames", [3, 5])
def test_an_odd_number_of_frames_is_refused(wide, frames):
    with pytest.raises(ShapeError, match=f"{frames} frames do not fill tubelets of 2"):
        wide[0](noise(1, frames, 3, 8, 20))
