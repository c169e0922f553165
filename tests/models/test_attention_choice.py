"""The back end of attention is part of the configuration, reaches every part of a model, and changes no number."""

import importlib.util

import pytest
import torch
from tiny_world import tiny_world

from jepa_actions.errors import ConfigError
from jepa_actions.models import WorldModel
from jepa_actions.nn import set_attention_backend


def frames() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (2, 1, 3, 16, 16), generator=generator, dtype=torch.uint8)


def chosen(model: WorldModel) -> set[str]:
    return {part.attention_backend for part in model.modules() if hasattr(part, "attention_backend")}


def test_the_choice_reaches_every_part_and_is_saved(tmp_path):
    model = tiny_world(attention="naive")
    assert chosen(model) == {"naive"}
    assert chosen(tiny_world()) == {"auto"}
    model.save_pretrained(tmp_path)
    assert chosen(WorldModel.from_pretrained(tmp_path)) == {"naive"}


def test_the_choice_changes_no_number():
    plain, naive = tiny_world(), tiny_world(attention="naive")
    torch.testing.assert_close(plain.encode(frames()).z, naive.encode(frames()).z, rtol=1e-5, atol=1e-5)


def test_a_back_end_for_another_device_is_named_when_the_model_is_first_used():
    model = tiny_world(attention="flex")
    with pytest.raises(ConfigError, match=r"model\.attention: flex runs on a CUDA device, found cpu"):
        model.encode(frames())
    set_attention_backend(model, "auto")
    model.encode(frames())


@pytest.mark.skipif(importlib.util.find_spec("xformers") is not None, reason="xformers is installed")
def test_a_back_end_that_is_not_installed_is_named_when_the_model_is_made():
    with pytest.raises(ConfigError, match=r"model\.attention: xformers is not installed"):
        tiny_world(attention="xformers")
