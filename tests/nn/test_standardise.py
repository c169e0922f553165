import torch

from jepa_actions.nn import Standardise


def samples(rows: int = 256) -> torch.Tensor:
    return 5.0 + 3.0 * torch.randn(rows, 4, generator=torch.Generator().manual_seed(0))


def test_training_uses_the_batch_and_moves_the_running_statistics():
    layer, x = Standardise(4, momentum=0.25).train(), samples()
    out = layer(x)
    torch.testing.assert_close(out.mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.var(0, correction=0), torch.ones(4))
    torch.testing.assert_close(layer.mean, 0.25 * x.mean(0))
    torch.testing.assert_close(layer.var, 0.75 + 0.25 * x.var(0, correction=0))


def test_evaluation_uses_the_running_ones_so_a_row_depends_on_itself_alone():
    layer, x = Standardise(4), samples()
    for _ in range(200):
        layer.train()(x)
    layer.eval()
    before = layer.mean.clone()
    torch.testing.assert_close(layer(x[:1]), layer(x)[:1])
    torch.testing.assert_close(layer(x).var(0, correction=0), torch.ones(4), atol=1e-3, rtol=0)
    assert torch.equal(layer.mean, before)


def test_all_leading_axes_are_samples():
    x = samples(24)
    torch.testing.assert_close(Standardise(4).train()(x.reshape(2, 3, 4, 4)).reshape(24, 4), Standardise(4).train()(x))


def test_shrinking_the_input_does_not_shrink_the_output_and_has_no_gradient():
    x = samples().requires_grad_()
    scale = torch.tensor(1e-2, requires_grad=True)
    out = Standardise(4).train()(scale * x)
    torch.testing.assert_close(out, Standardise(4).train()(x), rtol=1e-3, atol=1e-3)
    (out * torch.arange(256.0)[:, None]).sum().backward()  # a loss that cares about the output
    assert abs(float(scale.grad)) < 1e-2 * float(x.grad.norm())


def test_half_precision_activations_are_standardised_in_single_precision():
    torch.manual_seed(0)
    layer, x = Standardise(8), 3.0 + torch.randn(64, 8)
    out = layer.train()(x.to(torch.bfloat16))
    assert out.dtype == torch.float32
    torch.testing.assert_close(out.mean(0), torch.zeros(8), rtol=0, atol=1e-5)
    torch.testing.assert_close(layer.mean, layer.momentum * x.mean(0), rtol=1e-2, atol=1e-2)
