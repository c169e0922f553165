"""V-JEPA 2-AC's predictor against a reference in explicit loops, and its published weights."""

import math
import pickle

import pytest
import torch
from torch.nn import functional as F

from jepa_actions.errors import CheckpointError
from jepa_actions.models import DynamicsConfig, make_dynamics
from jepa_actions.models.pretrained_ac import NAMES, load_ac_predictor, load_ac_weights

DIM, ACTION, POSE = 10, 7, 6


def published_weights(heads=2, head_dim=14, depth=2, seed=0):
    """A state dict with the published names and shapes."""
    generator = torch.Generator().manual_seed(seed)
    width = heads * head_dim
    shapes = {
        "predictor_embed": (width, DIM),
        "action_encoder": (width, ACTION),
        "state_encoder": (width, ACTION),
        "extrinsics_encoder": (width, ACTION - 1),
        "predictor_proj": (DIM, width),
    }
    for i in range(depth):
        shapes[f"predictor_blocks.{i}.attn.qkv"] = (3 * width, width)
        shapes[f"predictor_blocks.{i}.attn.proj"] = (width, width)
        shapes[f"predictor_blocks.{i}.mlp.fc1"] = (4 * width, width)
        shapes[f"predictor_blocks.{i}.mlp.fc2"] = (width, 4 * width)
    weights = {}
    for name, shape in shapes.items():
        weights[f"{name}.weight"] = torch.randn(shape, generator=generator) / math.sqrt(shape[1])
        weights[f"{name}.bias"] = 0.1 * torch.randn(shape[0], generator=generator)
    norms = ["predictor_norm", *(f"predictor_blocks.{i}.norm{j}" for i in range(depth) for j in (1, 2))]
    for name in norms:
        weights[f"{name}.weight"] = 1 + 0.1 * torch.randn(width, generator=generator)
        weights[f"{name}.bias"] = 0.1 * torch.randn(width, generator=generator)
    return weights


def turned(vector, positions):
    """One head's query or key: every axis turns its third of the channels, whatever is left over stays.

    Channel pairs (0, 1), (2, 3) ... are mixed, but channel c turns with frequency number c modulo half the share: the
    published code repeats its table where it should repeat every entry.
    """
    share = 2 * ((len(vector) // 3) // 2)
    out = vector.clone()
    for axis, position in enumerate(positions):
        part = vector[axis * share : (axis + 1) * share]
        for c in range(share):
            angle = position / 10000 ** ((c % (share // 2)) / (share / 2))
            partner = -part[c + 1] if c % 2 == 0 else part[c - 1]
            out[axis * share + c] = part[c] * math.cos(angle) + partner * math.sin(angle)
    return out


def reference(weights, z, actions, proprio, extrinsics, grid, heads):
    """The predictor for one clip `(t, n, d)`, token by token."""

    def linear(name, x):
        return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def norm(name, x):
        return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-6)

    height, width = grid
    tokens, places, frames = [], [], []
    for t in range(len(z)):
        conditions = [linear("action_encoder", actions[t]), linear("state_encoder", proprio[t])]
        if extrinsics is not None:
            conditions.append(linear("extrinsics_encoder", extrinsics[t]))
        for code in conditions:
            tokens.append(code)
            places.append((t, 0.0, 0.0))
        for row in range(height):
            for column in range(width):
                tokens.append(linear("predictor_embed", z[t, row * width + column]))
                places.append((t, row * (height / height), column * (height / width)))  # both axes span `height`
        frames += [t] * (len(conditions) + height * width)
    x = torch.stack(tokens)
    depth = len({name.split(".")[1] for name in weights if name.startswith("predictor_blocks")})
    for i in range(depth):
        block = f"predictor_blocks.{i}"
        q, k, v = linear(f"{block}.attn.qkv", norm(f"{block}.norm1", x)).unflatten(-1, (3, heads, -1)).unbind(1)
        read = torch.zeros_like(q)
        for h in range(heads):
            queries = torch.stack([turned(q[n, h], places[n]) for n in range(len(x))])
            keys = torch.stack([turned(k[n, h], places[n]) for n in range(len(x))])
            for n in range(len(x)):
                seen = [m for m in range(len(x)) if frames[m] <= frames[n]]
                scores = torch.stack([queries[n] @ keys[m] / math.sqrt(q.shape[-1]) for m in seen]).softmax(0)
                read[n, h] = sum(scores[j] * v[m, h] for j, m in enumerate(seen))
        x = x + linear(f"{block}.attn.proj", read.flatten(1))
        hidden = linear(f"{block}.mlp.fc1", norm(f"{block}.norm2", x))
        x = x + linear(f"{block}.mlp.fc2", hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2))))
    patches = x.unflatten(0, (len(z), -1))[:, -height * width :]
    return linear("predictor_proj", norm("predictor_norm", patches))


def clip(frames, patches, extrinsics):
    generator = torch.Generator().manual_seed(5)
    widths = (ACTION, ACTION, *((POSE,) if extrinsics else ()))
    z = torch.randn(1, frames, patches, DIM, generator=generator)
    return z, [torch.randn(1, frames, width, generator=generator) for width in widths]


@pytest.mark.parametrize("extrinsics", [False, True])
@pytest.mark.parametrize(("grid", "frames"), [((2, 2), 3), ((2, 3), 2), ((3, 1), 2), ((1, 4), 1)])
def test_it_is_the_published_predictor(grid, frames, extrinsics):
    weights = published_weights()
    model = load_ac_predictor(weights, grid=grid, heads=2, extrinsics=extrinsics, normalise=False)
    z, given = clip(frames, grid[0] * grid[1], extrinsics)
    expected = reference(weights, z[0], *[x[0] for x in given], *([] if extrinsics else [None]), grid, heads=2)
    with torch.no_grad():
        torch.testing.assert_close(model(z, *given)[0], expected, rtol=1e-5, atol=1e-5)


def test_sizes_are_read_off_the_weights():
    model = load_ac_predictor(published_weights(heads=1, head_dim=64, depth=3), grid=(2, 2))
    config = DynamicsConfig(kind="ac", width=64, depth=3, heads=1, proprio=ACTION, normalise=True)
    assert (model.config, model.latents, model.dim, model.action_dim) == (config, 4, DIM, ACTION)
    assert not model.training
    z, given = clip(2, 4, False)
    out = model(z, *given)
    torch.testing.assert_close(out.mean(-1), torch.zeros(1, 2, 4), rtol=0, atol=1e-5)
    torch.testing.assert_close(out.var(-1, correction=0), torch.ones(1, 2, 4), rtol=0, atol=1e-3)


def test_the_released_file_with_its_prefixes_and_its_neighbours(tmp_path):
    weights = published_weights()
    predictor = {f"module.{name}": value for name, value in weights.items()}
    torch.save(
        {"predictor": predictor, "encoder": {"module.backbone.x": torch.zeros(1)}, "epoch": 3}, tmp_path / "a.pt"
    )
    torch.save(weights, tmp_path / "bare.pt")
    z, given = clip(2, 4, False)
    found = [
        load_ac_predictor(source, grid=(2, 2), heads=2)(z, *given)
        for source in (tmp_path / "a.pt", str(tmp_path / "bare.pt"), weights)
    ]
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def without(name):
    return lambda weights: weights.pop(name)


def put(name, tensor):
    return lambda weights: weights.__setitem__(name, tensor)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without("predictor_norm.bias"), r"tensor 'predictor_norm\.bias' is missing"),
        (without("predictor_blocks.1.mlp.fc1.bias"), r"'predictor_blocks\.1\.mlp\.fc1\.bias' is missing"),
        (without("state_encoder.weight"), r"'state_encoder\.weight'.* missing"),
        (put("predictor_blocks.0.gate", torch.zeros(1)), r"'predictor_blocks\.0\.gate' is not part"),
        (put("mask_tokens", torch.zeros(1)), "'mask_tokens' is not part of V-JEPA 2-AC's predictor"),
        (put("predictor_blocks.2.norm1.bias", torch.zeros(28)), r"dynamics\.depth: expected 2 .* found 3"),
        (put("predictor_proj.bias", torch.zeros(11)), r"'predictor_proj\.bias': expected shape \(10,\), found \(11,\)"),
        (put("predictor_embed.weight", torch.zeros(30, DIM)), r"'predictor_embed\.weight': expected shape \(28, 10\)"),
        (put("state_encoder.weight", torch.zeros(28, 8)), r"'state_encoder\.weight': .*\(28, 7\), found \(28, 8\)"),
        (put("predictor_proj.bias", torch.full((DIM,), math.nan)), r"'predictor_proj\.bias' has values"),
    ],
)
def test_weights_that_do_not_fit_are_named(damage, message):
    config = DynamicsConfig(kind="ac", width=28, heads=2, depth=2, proprio=ACTION)
    model = make_dynamics(config, 4, DIM, ACTION, grid=(2, 2))
    weights = published_weights()
    damage(weights)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=message):
        load_ac_weights(model, weights)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_sizes_cannot_be_read_off_incomplete_weights():
    weights = published_weights()
    del weights["action_encoder.weight"]
    with pytest.raises(CheckpointError, match=r"'action_encoder\.weight': expected a matrix"):
        load_ac_predictor(weights)


def test_a_model_of_another_kind_takes_no_such_weights():
    model = make_dynamics(DynamicsConfig(kind="transformer"), 4, DIM, ACTION)
    with pytest.raises(CheckpointError, match=r"dynamics\.kind: expected ac .* found transformer"):
        load_ac_weights(model, published_weights())


def test_a_file_that_is_missing_or_more_than_tensors_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"none\.pt"):
        load_ac_predictor(tmp_path / "none.pt")
    torch.save({"predictor": published_weights(), "opt": pytest}, tmp_path / "code.pt", pickle_module=_Anything)
    with pytest.raises(CheckpointError, match=r"code\.pt.* refused"):
        load_ac_predictor(tmp_path / "code.pt")
    torch.save({"epoch": 3}, tmp_path / "empty.pt")
    with pytest.raises(CheckpointError, match=r"empty\.pt: expected named tensors"):
        load_ac_predictor(tmp_path / "empty.pt")


class _Anything:
    """A pickle that would run code when it is opened."""

    class Pickler(pickle.Pickler):
        def reducer_override(self, value):
            return (print, ("run",)) if value is pytest else NotImplemented


def test_every_parameter_has_one_published_name():
    assert len(set(NAMES.values())) == len(NAMES)
    config = DynamicsConfig(kind="ac", width=28, heads=2, proprio=ACTION, extrinsics=POSE)
    ours = {name.split(".")[0] for name in make_dynamics(config, 4, DIM, ACTION, grid=(2, 2)).state_dict()}
    assert ours == set(NAMES.values())


def test_the_epsilon_of_the_layer_norms_is_a_setting():
    weights = published_weights()
    tight, loose = (load_ac_predictor(weights, grid=(1, 2), heads=2, norm_eps=eps) for eps in (1e-6, 1e-2))
    assert {norm.eps for norm in loose.modules() if isinstance(norm, torch.nn.LayerNorm)} == {1e-2}
    z, action = torch.randn(1, 2, 2, DIM), torch.randn(1, 2, ACTION)
    assert (tight(z, action, action) - loose(z, action, action)).abs().max() > 1e-4
