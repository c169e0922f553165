"""Output distributions behind one small interface: mean, std, sample, log_prob and a training loss per row."""

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional as F


class Distribution(Protocol):
    """What an inverse head returns for a batch of rows, `(..., a)` in model units."""

    @property
    def mean(self) -> Tensor: ...

    @property
    def std(self) -> Tensor: ...

    def sample(self, generator: torch.Generator | None = None) -> Tensor: ...

    def log_prob(self, value: Tensor) -> Tensor: ...

    def loss(self, value: Tensor) -> Tensor: ...


class Gaussian:
    """Independent normals. `parameters` holds mean and log std side by side, `(..., 2 a)`."""

    def __init__(self, parameters: Float[Tensor, "*b 2a"], log_std_range: tuple[float, float] = (-5.0, 2.0)) -> None:
        self.mean, raw = parameters.chunk(2, dim=-1)
        low, high = log_std_range
        self.log_std = low + (high - low) * torch.sigmoid(raw + math.log(-low / high))  # raw 0 is std 1

    @property
    def std(self) -> Float[Tensor, "*b a"]:
        return self.log_std.exp()

    def sample(self, generator: torch.Generator | None = None) -> Float[Tensor, "*b a"]:
        noise = torch.randn(self.mean.shape, generator=generator, device=self.mean.device, dtype=self.mean.dtype)
        return self.mean + self.std * noise

    def log_prob(self, value: Float[Tensor, "*b a"]) -> Float[Tensor, "*b"]:
        z = (value - self.mean) / self.std
        return (-0.5 * z**2 - self.log_std - 0.5 * math.log(2 * math.pi)).sum(-1)

    def loss(self, value: Float[Tensor, "*b a"]) -> Float[Tensor, "*b"]:
        """Negative log likelihood weighted by its own variance (beta-NLL with beta = 1, arXiv 2203.09168).

        The mean then has the gradient of a squared error, whatever the std believes, and the std is still fitted.
        Mean over action dimensions, so that the weight of the term does not grow with the block.
        """
        variance = self.std**2
        nll = 0.5 * (value - self.mean) ** 2 / variance + self.log_std
        return (variance.detach() * nll).mean(-1)


class Categorical:
    """A choice per action dimension among bins with known centres, logits `(..., a, bins)`."""

    def __init__(self, logits: Float[Tensor, "*b a k"], centres: Float[Tensor, "a k"]) -> None:
        self.logits = logits
        self.centres = centres

    @property
    def probs(self) -> Float[Tensor, "*b a k"]:
        return self.logits.softmax(-1)

    @property
    def mean(self) -> Float[Tensor, "*b a"]:
        return (self.probs * self.centres).sum(-1)

    @property
    def std(self) -> Float[Tensor, "*b a"]:
        return (self.probs * (self.centres - self.mean[..., None]) ** 2).sum(-1).sqrt()

    def sample(self, generator: torch.Generator | None = None) -> Float[Tensor, "*b a"]:
        probs = self.probs.flatten(0, -2)
        ids = torch.multinomial(probs, 1, generator=generator).reshape(self.logits.shape[:-1])
        return self._centre(ids)

    def bin(self, value: Float[Tensor, "*b a"]) -> Tensor:
        """Nearest bin per dimension, `(..., a)` int64."""
        return (value[..., None] - self.centres).abs().argmin(-1)

    def log_prob(self, value: Float[Tensor, "*b a"]) -> Float[Tensor, "*b"]:
        """Log probability of the bins the value falls in."""
        log_probs = self.logits.log_softmax(-1)
        return log_probs.gather(-1, self.bin(value)[..., None])[..., 0].sum(-1)

    def loss(self, value: Float[Tensor, "*b a"]) -> Float[Tensor, "*b"]:
        """Cross entropy of the value's bin, mean over action dimensions."""
        target = self.bin(value)
        loss = F.cross_entropy(self.logits.flatten(0, -2), target.flatten(), reduction="none")
        return loss.reshape(target.shape).mean(-1)

    def _centre(self, ids: Tensor) -> Tensor:
        centres = self.centres.expand(*ids.shape, -1)
        return centres.gather(-1, ids[..., None])[..., 0]


class OneHots:
    """Choices among classes, each a one-hot in the value: logits of all of them side by side, `(..., sum of classes)`.

    Unlike `Categorical`, whose bins are places on an axis, classes have no order: the mean is their probabilities.
    """

    def __init__(self, logits: Float[Tensor, "*b h"], classes: Sequence[int]) -> None:
        self.classes = tuple(classes)
        self.log_probs = torch.cat([part.log_softmax(-1) for part in logits.split(self.classes, dim=-1)], dim=-1)

    @property
    def mean(self) -> Float[Tensor, "*b h"]:
        """The probability of every class."""
        return self.log_probs.exp()

    @property
    def std(self) -> Float[Tensor, "*b h"]:
        return (self.mean * (1 - self.mean)).clamp_min(0).sqrt()

    def sample(self, generator: torch.Generator | None = None) -> Float[Tensor, "*b h"]:
        """One class of each choice, as a one-hot."""
        parts = []
        for probs in self.mean.split(self.classes, dim=-1):
            ids = torch.multinomial(probs.reshape(-1, probs.shape[-1]), 1, generator=generator)
            parts.append(F.one_hot(ids[..., 0].reshape(probs.shape[:-1]), probs.shape[-1]).to(probs))
        return torch.cat(parts, dim=-1)

    def log_prob(self, value: Float[Tensor, "*b h"]) -> Float[Tensor, "*b"]:
        """Log probability of the classes of one-hot values."""
        return (value * self.log_probs).sum(-1)

    def loss(self, value: Float[Tensor, "*b h"]) -> Float[Tensor, "*b"]:
        """Cross entropy, mean over the choices."""
        return -self.log_prob(value) / len(self.classes)

    def correct(self, value: Float[Tensor, "*b h"]) -> Bool[Tensor, "*b c"]:
        """Whether the most probable class of each choice is the value's."""
        pairs = zip(self.log_probs.split(self.classes, -1), value.split(self.classes, -1), strict=True)
        return torch.stack([guess.argmax(-1) == true.argmax(-1) for guess, true in pairs], dim=-1)


class Mixed:
    """Numbers and classes in one value, independent of each other given the input.

    Args:
        rest: of the entries of the value that are numbers.
        hot: of the one-hots.
        rest_at, hot_at: which entries of the value these are, in their order.
    """

    def __init__(
        self, rest: Distribution, hot: OneHots, rest_at: Int64[Tensor, "r"], hot_at: Int64[Tensor, "h"]
    ) -> None:
        self.rest, self.hot, self.rest_at, self.hot_at = rest, hot, rest_at, hot_at

    @property
    def mean(self) -> Float[Tensor, "*b a"]:
        """Means of the numbers, probabilities of the classes."""
        return self._joined(self.rest.mean, self.hot.mean)

    @property
    def std(self) -> Float[Tensor, "*b a"]:
        return self._joined(self.rest.std, self.hot.std)

    def sample(self, generator: torch.Generator | None = None) -> Float[Tensor, "*b a"]:
        return self._joined(self.rest.sample(generator), self.hot.sample(generator))

    def log_prob(self, value: Float[Tensor, "*b a"]) -> Float[Tensor, "*b"]:
        """Log density (for bins, log probability) of the numbers plus log probability of the classes."""
        return self.rest.log_prob(value[..., self.rest_at]) + self.hot.log_prob(value[..., self.hot_at])

    def loss(self, value: Float[Tensor, "*b a"]) -> Float[Tensor, "*b"]:
        """Both losses, weighted by how many numbers and how many choices there are."""
        numbers, choices = len(self.rest_at), len(self.hot.classes)
        rest, hot = self.rest.loss(value[..., self.rest_at]), self.hot.loss(value[..., self.hot_at])
        return (numbers * rest + choices * hot) / (numbers + choices)

    def correct(self, value: Float[Tensor, "*b a"]) -> Bool[Tensor, "*b c"]:
        """Whether the most probable class of each choice is the value's."""
        return self.hot.correct(value[..., self.hot_at])

    def _joined(self, rest: Tensor, hot: Tensor) -> Tensor:
        out = rest.new_empty(*rest.shape[:-1], len(self.rest_at) + len(self.hot_at))
        out[..., self.rest_at], out[..., self.hot_at] = rest, hot.to(rest)
        return out
