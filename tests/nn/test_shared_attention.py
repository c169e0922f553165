import pytest
import torch

from jepa_actions.nn import attention, shared_attention
from jepa_actions.nn.transformer import KeyValue


def parts(problems=2, candidates=3, heads=2, n=5, past=7, own=4, d=8):
    generator = torch.Generator().manual_seed(0)

    def rand(rows, tokens):
        return torch.randn(rows, heads, tokens, d, generator=generator, requires_grad=True)

    rows = problems * candidates
    shared = KeyValue(rand(problems, past), rand(problems, past))
    return rand(rows, n), shared, KeyValue(rand(rows, own), rand(rows, own))


def copied(q, shared, own):
    """The same with the past copied for every candidate."""
    copies = q.shape[0] // shared.key.shape[0]
    keys, values = (
        torch.cat([past.repeat_interleave(copies, 0), mine], dim=2) for past, mine in zip(shared, own, strict=True)
    )
    return attention(q, keys, values)


@pytest.mark.parametrize("fused", [True, False, None])
def test_it_is_attention_over_past_and_own(fused):
    q, shared, own = parts()
    with torch.no_grad():
        torch.testing.assert_close(
            shared_attention(q, shared, own, fused=fused), copied(q, shared, own), rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize("fused", [True, False])
def test_a_past_or_an_own_that_wins_everything_is_merged_without_loss(fused):
    q, shared, own = parts()
    with torch.no_grad():
        for loud in (KeyValue(40 * shared.key, shared.value), KeyValue(shared.key, shared.value)):
            for mine in (KeyValue(40 * own.key, own.value), own):
                found = shared_attention(4 * q, loud, mine, fused=fused)
                torch.testing.assert_close(found, copied(4 * q, loud, mine), rtol=1e-4, atol=1e-4)


def test_gradients_reach_queries_past_and_own():
    q, shared, own = parts()
    leaves = (q, *shared, *own)
    weights = torch.randn(q.shape, generator=torch.Generator().manual_seed(1))
    found = torch.autograd.grad((shared_attention(q, shared, own) * weights).sum(), leaves)
    expected = torch.autograd.grad((copied(q, shared, own) * weights).sum(), leaves)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_the_past_is_never_copied_for_the_candidates():
    """The largest tensor that is made grows with candidates x queries, never with candidates x past."""
    q, shared, own = parts(problems=1, candidates=16, n=1, past=512, own=1)
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            for tensor in out if isinstance(out, (tuple, list)) else (out,):
                if isinstance(tensor, torch.Tensor):
                    largest = max(largest, tensor.untyped_storage().nbytes() // 4)
            return out

    with torch.no_grad(), Watch():
        shared_attention(q, shared, own)
    assert largest <= max(shared.key.numel(), q.numel())


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_is_attention_over_past_and_own_on_cuda(dtype):
    q, shared, own = parts(n=37, past=70, own=45, d=64)
    q, shared, own = (
        q.detach().to("cuda", dtype),
        KeyValue(*(x.detach().to("cuda", dtype) for x in shared)),
        KeyValue(*(x.detach().to("cuda", dtype) for x in own)),
    )
    expected = copied(q.float(), KeyValue(*(x.float() for x in shared)), KeyValue(*(x.float() for x in own)))
    close = 1e-4 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(shared_attention(q, shared, own).float(), expected, rtol=close, atol=close)
