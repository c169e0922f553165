"""What a configuration accepts, how file, preset and options are laid on each other, and every mistake in one line."""

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import draccus
import pytest
import yaml

from jepa_actions.config import decode_config, dump_config, load_config, read_yaml
from jepa_actions.errors import ConfigError


class Mode(Enum):
    JOINT = 1
    STAGED = 2


@dataclass
class Optim:
    lr: float = 3e-4  # peak learning rate
    betas: tuple[float, float] = (0.9, 0.95)
    # steps until the peak
    warmup: int = 100

    def __post_init__(self) -> None:
        if self.lr <= 0:
            raise ValueError(f"lr must be positive, found {self.lr}")


@dataclass
class Encoder(draccus.ChoiceRegistry):
    pass


@Encoder.register_subclass("vit")
@dataclass
class ViT(Encoder):
    depth: int = 6
    width: int = 192


@Encoder.register_subclass("cnn")
@dataclass
class CNN(Encoder):
    channels: list[int] = field(default_factory=lambda: [16, 32])


@dataclass
class Objective(draccus.ChoiceRegistry):
    weight: float = 1.0


@Objective.register_subclass("masked")
@dataclass
class Masked(Objective):
    ratio: float = 0.75


@Objective.register_subclass("forward")
@dataclass
class Forward(Objective):
    steps: int = 1


@dataclass
class Data:
    path: Path  # where the recordings are
    cameras: tuple[str, ...] = ()
    size: tuple[int, int] | None = None


@dataclass
class Config:
    """Everything a run needs."""

    data: Data
    encoder: Encoder = field(default_factory=lambda: ViT(depth=12))
    optim: Optim = field(default_factory=lambda: Optim(lr=1e-3, warmup=7))
    second: Optim | None = None
    objectives: dict[str, Objective] = field(default_factory=lambda: {"masked": Masked(ratio=0.5)})
    mode: Mode = Mode.JOINT
    scan_lag: str = "0:0"
    clip: float | Literal["auto"] | None = 1.0
    precision: Literal["fp32", "bf16"] = "fp32"
    offset: int = 0
    quiet: bool = False
    name: str = "run"
    notes: Any = None


def load(*argv: str) -> Config:
    return load_config(Config, ["--data.path", "D", *argv])


@pytest.fixture
def recipe(tmp_path: Path):
    def write(text: str) -> str:
        path = tmp_path / "recipe.yaml"
        path.write_text(text)
        return str(path)

    return write


def message(*argv: str, cls: type = Config) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(cls, argv)
    text = str(caught.value)
    assert "\n" not in text
    return text


# --- values ---


def test_every_kind_of_value():
    config = load(
        *("--data.cameras", "[front, wrist]", "--data.size", "[48, 64]", "--mode", "STAGED", "--clip=auto"),
        *("--offset", "-3", "--quiet", "true", "--optim.lr", "3e-4", "--optim.betas", "[0.8, 1]", "--second.lr", "1"),
        *("--notes.who.x", "1", "--notes.list", "[a]"),
    )
    assert config.data == Data(Path("D"), ("front", "wrist"), (48, 64))
    assert (config.mode, config.clip, config.offset, config.quiet) == (Mode.STAGED, "auto", -3, True)
    assert config.optim == Optim(lr=3e-4, betas=(0.8, 1.0), warmup=7)  # the default instance keeps its other keys
    assert config.second == Optim(lr=1.0)
    assert isinstance(config.second.lr, float)
    assert config.notes == {"who": {"x": 1}, "list": ["a"]}
    assert load("--clip", "null").clip is None
    assert load("--clip", "2").clip == 2.0


@pytest.mark.parametrize("argv", [["--scan-lag=-8:8"], ["--scan-lag", "-8:8"], ["--scan_lag", "-8:8"]])
def test_a_value_may_begin_with_a_minus_and_dashes_equal_underscores(argv):
    assert load(*argv).scan_lag == "-8:8"


@pytest.mark.parametrize("text", ["007", "true", "null", "3e-4", "a: b", "[oops", "2024-01-01", "no", ""])
def test_text_is_taken_as_typed(text):
    assert load("--name", text).name == text


def test_yaml_is_1_2(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("a: 3e-4\nb: no\nc: -8:8\nd: 2024-01-01\ne: 1_000\nf: .inf\ng: ~\nh:\ni: 0x10\nj: TRUE\n")
    assert read_yaml(path) == {
        **{"a": 3e-4, "b": "no", "c": "-8:8", "d": "2024-01-01", "e": 1000},
        **{"f": float("inf"), "g": None, "h": None, "i": 16, "j": True},
    }


# --- layers ---

RECIPE = """
data: {path: D}
encoder: {type: vit, width: 32}
optim: &o {lr: 1.0e-4}
second: *o
objectives:
  masked: {type: masked, weight: 2}
  forward: {type: forward}
scan-lag: -1:1
presets:
  gpu:
    encoder: {width: 768}
    scan_lag: -2:2
    objectives: {forward: null}
"""


def test_file_then_preset_then_options(recipe):
    path = recipe(RECIPE)
    plain = load_config(Config, ["--config", path])
    assert plain.encoder == ViT(depth=12, width=32)
    assert plain.objectives == {"masked": Masked(weight=2.0, ratio=0.5), "forward": Forward()}
    assert plain.scan_lag == "-1:1"
    gpu = load_config(Config, ["--encoder.width", "64", "--config", path, "--preset=gpu", "--optim.lr", "5"])
    assert gpu.encoder == ViT(depth=12, width=64)
    assert list(gpu.objectives) == ["masked"]
    assert gpu.scan_lag == "-2:2"
    assert (gpu.optim.lr, gpu.second.lr) == (5.0, 1e-4)  # a YAML alias is not a shared place


def test_an_option_below_a_dictionary_changes_one_entry_and_a_file_replaces_it(recipe):
    config = load("--objectives.masked.weight", "0.5", "--objectives.extra.type", "forward")
    assert config.objectives == {"masked": Masked(weight=0.5, ratio=0.5), "extra": Forward()}
    assert load("--objectives.masked", "null").objectives == {}
    path = recipe("data: {path: D}\nobjectives: {forward: {type: forward}}")
    assert load_config(Config, ["--config", path]).objectives == {"forward": Forward()}


@pytest.mark.parametrize("flip", [1, -1])
def test_a_type_and_its_keys_come_in_any_order(flip, recipe):
    argv = [["--encoder.type", "cnn"], ["--encoder.channels", "[8]"]][::flip]
    assert load(*argv[0], *argv[1]).encoder == CNN([8])
    path = recipe("data: {path: D}\nencoder: {channels: [4], type: cnn}")
    assert load_config(Config, ["--config", path]).encoder == CNN([4])
    assert load("--encoder.type", "vit").encoder == ViT(depth=12)  # the type of the default keeps the default's keys
    assert load("--encoder", "{type: cnn}", "--encoder.channels", "[1]").encoder == CNN([1])


def test_a_later_option_wins():
    assert load("--offset", "1", "--offset=2").offset == 2


def test_dump_and_read_back():
    config = load("--second.lr", "1", "--data.size", "[1, 2]", "--mode", "STAGED", "--encoder.type", "cnn")
    plain = dump_config(config)
    assert plain["encoder"] == {"type": "cnn", "channels": [16, 32]}
    assert decode_config(Config, yaml.safe_load(yaml.safe_dump(plain)), "copy") == config


# --- mistakes, each one line with place, key, found and expected ---


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--optim.rl", "1"], "command line: unknown key optim.rl, did you mean optim.lr?"),
        (["--encodr.depth", "1"], "command line: unknown key encodr, did you mean encoder?"),
        (["--warm-up", "1"], "command line: unknown key warm-up, did you mean optim.warmup?"),
        (["--encoder.channels", "[1]"], "command line: unknown key encoder.channels of type vit"),
        (
            ["--objectives.masked.rato", "1"],
            "unknown key objectives.masked.rato of type masked, did you mean objectives",
        ),
        (
            ["--encoder.type", "vti"],
            "command line: encoder.type: unknown type 'vti', did you mean vit?; known: cnn, vit",
        ),
        (
            ["--objectives.new.weight", "1"],
            "command line: objectives.new.type: missing, expected one of forward, masked",
        ),
        (["--optim.lr", "fast"], "command line: optim.lr: expected float, found 'fast'"),
        (["--optim.lr", "-1"], "command line: optim: lr must be positive, found -1.0"),
        (["--optim.warmup", "1.5"], "command line: optim.warmup: expected int, found 1.5"),
        (["--offset", "null"], "command line: offset: expected int, found null"),
        (["--offset", "true"], "command line: offset: expected int, found true"),
        (["--quiet", "1"], "command line: quiet: expected bool, found 1"),
        (["--clip", "soon"], "command line: clip: expected float or 'auto' or null, found 'soon'"),
        (["--precision", "fp16"], "command line: precision: expected 'fp32' or 'bf16', found 'fp16'"),
        (["--mode", "NONE"], "command line: mode: expected JOINT or STAGED, found 'NONE'"),
        (["--data.cameras", "front"], "command line: data.cameras: expected list of text, found 'front'"),
        (["--data.size", "[1]"], "command line: data.size: expected 2 items, found 1: [1]"),
        (["--data.size", "[1, a]"], "command line: data.size.1: expected int, found 'a'"),
        (["--optim", "3"], "command line: optim: expected mapping of keys, found 3"),
        (["--objectives", "3"], "command line: objectives: expected mapping of keys, found 3"),
        (["--offset", "[1"], "command line: offset: '[1' is not valid YAML"),
        (["--offset.x", "1", "--offset.x.y", "1"], "command line: --offset.x.y: offset.x is 1, not a mapping of keys"),
        (["--offset"], "command line: --offset needs a value"),
        (["--quiet", "--offset", "1"], "command line: --quiet needs a value (--quiet true for a switch)"),
        (["offset", "1"], "command line: found 'offset', expected --key value"),
        (["--a..b", "1"], "command line: --a..b is not a dotted key"),
        (["--config", "a", "--config", "b"], "command line: --config is given 2 times, expected once"),
        (["--preset", "gpu"], "command line: no preset 'gpu'; known: none"),
    ],
)
def test_mistakes_on_the_command_line(argv, expected):
    assert expected in message("--data.path", "D", *argv)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("data: {path: D, size: x}", "{}: data.size: expected [int, int] or null, found 'x'"),
        ("data: {pth: D}", "{}: unknown key data.pth, did you mean data.path?"),
        ("data: {}", "{}: missing key data.path, expected path in the file or as --data.path"),
        ("optim: {}", "{}: missing key data, expected mapping of keys"),
        ("data: {path: 3}", "{}: data.path: expected path, found 3"),
        ("data: {path: D}\nname: 3", "{}: name: expected text, found 3"),
        ("data: {path: D}\nscan-lag: a\nscan_lag: b", "{}: scan_lag: is given twice, as scan-lag and as scan_lag"),
        ("data: {path: D, path: E}", "{}: line 1: key 'path' is given twice"),
        ("- a", "{}: expected a mapping of keys, found list"),
        ("a: [", "{}: line 1: "),
        ("a: !!python/object/apply:os.getcwd []", "{}: line 1: could not determine a constructor"),
        ("a: \x00", "{}: character 0x0 is not allowed"),
        ("data: {path: D}\noptim: {lr: 0}", "{}: optim: lr must be positive, found 0.0"),
        ("data: {path: D}\nobjectives: {1: {type: masked}}", "{}: objectives: expected text as the name"),
        ("data: {path: D}\n3: 1", "{}: unknown key 3; known: data, encoder"),
    ],
)
def test_mistakes_in_a_file(text, expected, recipe):
    path = recipe(text)
    assert message("--config", path).startswith(expected.format(path))


def test_the_place_is_the_one_that_set_the_key(recipe):
    path = recipe("data: {path: D}\noptim: {warmup: x}")
    assert message("--config", path, "--offset", "1").startswith(f"{path}: optim.warmup: ")
    assert message("--config", path, "--optim.warmup", "y").startswith("command line: optim.warmup: ")


def test_presets_are_named_when_one_is_unknown(recipe):
    path = recipe("data: {path: D}\npresets: {gpu: {offset: 1}, cpu: {}, bad: 3}")
    assert message("--config", path, "--preset", "gpuu") == (
        f"{path}: no preset 'gpuu', did you mean gpu?; known: gpu, cpu, bad"
    )
    assert message("--config", path, "--preset", "bad") == (
        f"{path}: presets.bad: expected a mapping of keys, found int"
    )


def test_a_file_that_cannot_be_read(tmp_path):
    assert message("--config", str(tmp_path / "no.yaml")).endswith("no.yaml: cannot be read: No such file or directory")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\xff")
    assert "not UTF-8 text" in message("--config", str(tmp_path / "binary.yaml"))


def test_an_annotation_that_cannot_be_told_apart_is_a_mistake_in_the_code():
    @dataclass
    class Loose:
        x: str | list[str] = ""
        y: complex = 0j

    with pytest.raises(TypeError, match="cannot tell apart"):
        load_config(Loose, ["--x", "[a]"])
    with pytest.raises(TypeError, match="cannot hold"):
        load_config(Loose, ["--y", "1"])


def test_help_names_every_key_with_type_default_and_comment(capsys):
    with pytest.raises(SystemExit) as caught:
        load_config(Config, ["--help"], prog="train.py")
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: train.py [--config FILE.yaml]")
    for line in (
        "Everything a run needs.",
        "--data.path  path, required\n        where the recordings are",
        "--optim.lr  float, default 0.001\n        peak learning rate",
        "--optim.warmup  int, default 7\n        steps until the peak",
        "--encoder.type  cnn or vit, default vit",
        "--encoder.depth  int, default 12",
        "--encoder.channels  list of int, default [16, 32]",
        "--objectives  mapping, default entries masked",
        "--objectives.<name>.ratio  float, default 0.75",
        "--second  mapping or null",
        "--clip  float or 'auto' or null, default 1.0",
        "--precision  'fp32' or 'bf16', default fp32",
        "--mode  JOINT or STAGED, default JOINT",
        "--quiet  bool, default false",
    ):
        assert line in text
