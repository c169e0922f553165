import pytest
import torch

from jepa_actions.models import MASK_KINDS, EncoderConfig, MaskedPredictor, PredictorConfig


@pytest.fixture
def predictor() -> MaskedPredictor:
    torch.manual_seed(0)
    return MaskedPredictor(
        PredictorConfig(width=24, depth=2, heads=2), EncoderConfig(image_size=(16, 16), patch=8, width=32)
    )


VISIBLE = torch.tensor([[0, 1, 2], [0, 2, 3]])
TOKENS = torch.randn(2, 3, 32, generator=torch.Generator().manual_seed(0))


def test_the_answer_depends_on_the_place_asked_for(predictor):
    target = torch.tensor([[4, 5, 6, 7]]).expand(2, -1)
    out = predictor(TOKENS, VISIBLE, target, "future")
    assert out.shape == (2, 4, 32)
    for i in range(1, 4):
        assert not torch.allclose(out[:, 0], out[:, i], atol=1e-5)
    assert torch.allclose(predictor(TOKENS, VISIBLE, target.flip(1), "future").flip(1), out, atol=1e-5)


def test_the_answer_depends_on_where_the_visible_tokens_were(predictor):
    target = torch.tensor([[4], [4]])
    here = predictor(TOKENS, VISIBLE, target, "short")
    assert not torch.allclose(predictor(TOKENS, VISIBLE + 1, target + 1, "short"), here, atol=1e-5)


def test_a_kind_has_a_mask_token_of_its_own(predictor):
    target = torch.tensor([[5, 6], [5, 6]])
    before = {kind: predictor(TOKENS, VISIBLE, target, kind) for kind in MASK_KINDS}
    with torch.no_grad():
        predictor.mask_tokens[MASK_KINDS.index("long")].add_(1.0)
    for kind in MASK_KINDS:
        same = torch.equal(predictor(TOKENS, VISIBLE, target, kind), before[kind])
        assert same == (kind != "long")


def test_it_learns_which_token_was_where(predictor):
    """Targets that are copies of a visible token at the same place one step before: position and content must meet."""
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(predictor.parameters(), lr=5e-3)
    visible, target = torch.arange(4).expand(16, -1), torch.arange(4, 8).expand(16, -1)
    errors = []
    for _ in range(150):
        tokens = torch.randn(16, 4, 32, generator=generator)
        error = (predictor(tokens, visible, target, "future") - tokens).square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(float(error.detach()))
    assert errors[-1] < 0.7 * errors[0]


@pytest.mark.parametrize("depth", [0, 1])
@pytest.mark.parametrize("kind", MASK_KINDS)
def test_a_residual_predictor_adds_to_an_interpolation_of_the_visible_features(kind, depth):
    config = PredictorConfig(width=24, depth=depth, heads=2, residual=True)
    predictor = MaskedPredictor(config, EncoderConfig(image_size=(16, 16), patch=8, width=32))
    torch.nn.init.zeros_(predictor.predictor_proj.weight)
    visible, target = torch.arange(8).expand(2, -1), torch.arange(8, 12).expand(2, -1)
    tokens = torch.randn(2, 8, 32, generator=torch.Generator().manual_seed(0))
    expected = predictor.interpolation(tokens, visible, target, kind, (2, 2))
    torch.testing.assert_close(predictor(tokens, visible, target, kind), expected)


@pytest.mark.parametrize("residual", [False, True])
def test_packed_samples_of_different_sizes_and_kinds_equal_each_alone_with_gradients(residual):
    torch.manual_seed(0)
    config = PredictorConfig(width=24, depth=2, heads=2, residual=residual)
    predictor = MaskedPredictor(config, EncoderConfig(image_size=(16, 16), patch=8, width=32))
    for token in predictor.mask_tokens:
        torch.nn.init.normal_(token)
    visible = [torch.tensor(ids) for ids in ([0, 1, 2], [3], [0, 5])]
    target = [torch.tensor(ids) for ids in ([3], [0, 1, 2], [6, 4, 7])]
    tokens = [torch.randn(len(ids), 32, requires_grad=True) for ids in visible]
    out = predictor.packed(tokens, visible, target, MASK_KINDS)
    alone = [
        predictor(x[None], v[None], m[None], kind)[0]
        for x, v, m, kind in zip(tokens, visible, target, MASK_KINDS, strict=True)
    ]
    for one, other in zip(out, alone, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    leaves = [*tokens, *predictor.parameters()]
    found = torch.autograd.grad(sum(x.pow(3).sum() for x in out), leaves)
    for x, y in zip(found, torch.autograd.grad(sum(x.pow(3).sum() for x in alone), leaves), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-4)
