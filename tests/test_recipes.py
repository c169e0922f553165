"""Every recipe is what its file says, none knows where data lies; the released model is what its card says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from jepa_actions.config import load_config
from jepa_actions.data import ActionBounds, ActionCodec
from jepa_actions.envs.worlds import WORLDS
from jepa_actions.errors import ConfigError
from jepa_actions.evaluation.suite import EVALUATIONS
from jepa_actions.models import MASK_KINDS, WorldModel
from jepa_actions.training import TrainConfig, TrainingModule

REPOSITORY = Path(__file__).resolve().parent.parent
RECIPES = sorted((REPOSITORY / "recipes").rglob("*.yaml"))
CHECKPOINT = REPOSITORY / "checkpoints" / "two_room"


def names(path: Path) -> str:
    return path.relative_to(REPOSITORY / "recipes").with_suffix("").as_posix()


def loaded(path: Path, *options: str) -> TrainConfig:
    recipe = yaml.safe_load(path.read_text())
    given = recipe["data"].get("path")
    if "backbone" in recipe["model"]:
        options = ("--model.backbone.weights", "random", *options)
    return load_config(TrainConfig, ["--config", str(path), *([] if given else ["--data.path", "D"]), *options])


def finished(config: TrainConfig) -> bool:
    """Whether the encoder is not trained: a frozen backbone, or that of a model that is."""
    return config.model.backbone is not None or config.train.freeze_encoder


def test_there_are_the_recipes_that_the_readme_names():
    assert {names(path) for path in RECIPES} >= {
        f"vjepa/{n}" for n in ("two_room", "droid_franka", "donkeycar", "clips")
    }


@pytest.mark.parametrize("path", RECIPES, ids=names)
class TestRecipe:
    def test_it_is_a_configuration(self, path):
        config = loaded(path)
        folder = path.parent.name
        assert config.name in (path.stem, f"{folder}_{path.stem}", f"{path.stem}_{folder}")
        assert set(config.evaluate) <= set(EVALUATIONS)
        assert config.evaluate, "a recipe ends with a table of its metrics beside their floors"

    def test_it_holds_no_path_but_the_model_that_it_goes_on_from(self, path):
        def texts(value):
            if isinstance(value, dict):
                return [t for item in value.values() for t in texts(item)]
            if isinstance(value, list):
                return [t for item in value for t in texts(item)]
            return [value] if isinstance(value, str) else []

        found = yaml.safe_load(path.read_text())
        init = found.pop("init", None)
        if path.parent.name == "goals":  # a released model, or what the recipe of the same world writes
            world = path.stem.removesuffix("_state").removesuffix("_clone")
            released = (f"checkpoints/{world}", f"checkpoints/{world}_goals")
            assert init in (*released, f"runs/{world}/model", f"runs/{world}_state/model")
            assert init.startswith("runs") or (REPOSITORY / init).is_dir()
        else:
            assert init is None
        assert not [text for text in texts(found) if "/" in text or "\\" in text or text.startswith(("~", "."))]
        assert found["data"].get("path", "env:two_room") in [f"env:{world}" for world in WORLDS]

    def test_masked_prediction_of_every_kind_is_part_of_it(self, path):
        config = loaded(path)
        if finished(config):
            assert config.objectives.masked is None, "a frozen encoder is not pretrained"
            return
        assert config.objectives.masked is not None
        assert config.objectives.masked.weight > 0
        assert (config.objectives.masked.start, config.objectives.masked.stop) == (0.0, 1.0)
        assert config.data.frames // config.model.encoder.tubelet >= 2, "a clip of one time step has no future"
        clips = round(config.objectives.masked.share * config.train.batch_size)
        assert clips * len(config.model.cameras) >= len(MASK_KINDS), "too few clips for every kind of mask"

    def test_its_model_can_be_built(self, path):
        config = loaded(path)
        codec = None
        if config.objectives.inverse is not None or config.objectives.goal_inverse is not None:
            size = len(config.data.action.angles) + 4
            ones = (1.0,) * size
            codec = ActionCodec(
                tuple(f"a{i}" for i in range(size)),
                config.data.block,
                np.zeros(size, np.float32),
                np.ones(size, np.float32),
                ActionBounds("box", low=tuple(-x for x in ones), high=ones),
            )
        module = TrainingModule(WorldModel(config.model, codec), config)
        assert ("masked" in module.terms) != finished(config)
        assert (codec is None) == (module.model.inverse is None)

    def test_its_presets_are_configurations_too(self, path):
        for preset in yaml.safe_load(path.read_text()).get("presets", {}):
            assert loaded(path, "--preset", preset) != loaded(path)


def test_no_two_recipes_write_to_the_same_folder():
    found = [loaded(path, *preset).name for path in RECIPES for preset in presets(path)]
    assert len(found) == len(set(found))


def presets(path: Path) -> list[list[str]]:
    return [[], *(["--preset", name] for name in yaml.safe_load(path.read_text()).get("presets", {}))]


@pytest.mark.parametrize("name", ["vjepa/droid_franka", "vjepa/donkeycar", "vjepa/clips", "dino_wm/dinov2"])
def test_recordings_must_be_given(name):
    path = REPOSITORY / "recipes" / f"{name}.yaml"
    with pytest.raises(ConfigError, match=r"^[^\n]*data\.path[^\n]*$") as caught:
        load_config(TrainConfig, ["--config", str(path)])
    assert str(path) in str(caught.value)


def test_the_laptop_recipe_trains_what_this_library_is():
    objectives = loaded(REPOSITORY / "recipes/vjepa/two_room.yaml").objectives
    assert None not in (objectives.masked, objectives.forward, objectives.inverse)


@pytest.mark.skipif(not CHECKPOINT.is_dir(), reason="no released checkpoint in this tree")
def test_the_released_model_loads_is_small_and_has_a_card():
    model = WorldModel.from_pretrained(CHECKPOINT)
    assert model.codec is not None
    assert list(model.codec.names) == ["dx", "dy"]
    assert model.extra["recipe"]["data"]["path"] == "env:two_room"
    assert sum(file.stat().st_size for file in CHECKPOINT.rglob("*") if file.is_file()) < 16 * 2**20
    card = (CHECKPOINT / "README.md").read_text()
    assert "offset25" in card
    assert {file.suffix for file in CHECKPOINT.iterdir()} <= {".json", ".safetensors", ".md"}
