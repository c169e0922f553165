"""Latency: every operation of every size is there, its FLOPs are those of the arithmetic, and bad input is named."""

import json
from dataclasses import replace

import pytest
import torch
from tiny_world import TINY, tiny_recipe

from jepa_actions.cli import main
from jepa_actions.errors import ConfigError
from jepa_actions.evaluation.latency import (
    Size,
    latency_size,
    latency_table,
    matrix_product_rate,
    measure_latency,
)
from jepa_actions.planning import CEMConfig, LatentCost, PlannerPreset

CPU = torch.device("cpu")


def tiny_size(tmp_path, **model) -> Size:
    planner = PlannerPreset(CEMConfig(samples=8, elites=2, iterations=3, returns="mean"), LatentCost(), 2, 1)
    recipe = tiny_recipe(tmp_path, model={"encoder": TINY.encoder, **model})
    return Size(recipe, planner, {"cpu": 6, "cuda": 6}, ((-1.0, -1.0), (1.0, 1.0)))


def encoder_flops(tokens: int) -> int:
    """One clip through TINY's encoder: patch embedding, and a block of qkv, scores, values, proj and a 4x MLP."""
    pixels, width = 3 * 4 * 4, 24
    return 2 * tokens * (pixels * width + 12 * width * width + 2 * tokens * width)


def test_the_report_has_every_operation_with_flops_of_the_arithmetic(tmp_path):
    report = measure_latency({"tiny": tiny_size(tmp_path)}, CPU, repeats=1)
    metrics = report["metrics"]
    for what in ("encode", "plan", "train"):
        for measure in ("ms", "evaluations", "gflop", "mfu"):
            assert metrics[f"tiny_{what}_{measure}"] > 0
        expected = metrics[f"tiny_{what}_gflop"] / metrics[f"tiny_{what}_ms"] / metrics["matrix_product_tflops"]
        assert metrics[f"tiny_{what}_mfu"] == pytest.approx(expected)
    assert metrics["tiny_encode_gflop"] * 1e9 == encoder_flops(4 * 16)
    assert metrics["tiny_plan_evaluations"] == 2 * (8 * 3 + 1)
    assert metrics["tiny_train_evaluations"] == 6
    assert {"hardware", "seconds_total", "commit", "precision", "flops"} <= set(report)
    assert len(latency_table(report).splitlines()) == 5
    json.dumps(report)


def test_a_plan_pays_for_the_evaluations_that_are_reported(tmp_path):
    size = tiny_size(tmp_path)
    searching = replace(size, planner=replace(size.planner, planner=replace(size.planner.cem, iterations=7)))
    flops, evaluations = (
        [measure_latency({"x": s}, CPU, repeats=1)["metrics"][f"x_plan_{what}"] for s in (size, searching)]
        for what in ("gflop", "evaluations")
    )
    codec_and_dynamics = (flops[1] - flops[0]) / (evaluations[1] - evaluations[0])
    state, width, action = 16, 24, 4  # TINY's dynamics: a state, an action of two blocks, depth 1
    assert codec_and_dynamics * 1e9 == pytest.approx(2 * (state * width + action * width + width * state))


def test_bf16_is_the_precision_of_the_models_products_too(tmp_path):
    report = measure_latency({"tiny": tiny_size(tmp_path)}, CPU, repeats=1, precision="bf16", batch=3)
    assert report["precision"] == "bf16"
    assert report["metrics"]["tiny_train_evaluations"] == 3


def test_the_rate_of_a_product_is_positive_and_finite():
    assert 0 < matrix_product_rate(CPU, "float32", size=64, repeats=1) < 1e18


@pytest.mark.parametrize("name", ["laptop", "vit_small", "vit_base", "vit_large", "ac"])
def test_named_sizes_are_what_they_say(name):
    size = latency_size(name)
    encoder = size.config.model.encoder
    widths = {"laptop": 64, "vit_small": 384, "vit_base": 768, "vit_large": 1024, "ac": 1408}
    assert encoder.width == widths[name]
    if name.startswith("vit"):
        assert (encoder.image_size, encoder.patch, encoder.tubelet) == ((224, 224), 16, 2)
        assert size.config.data.frames == 16
        assert size.config.objectives.masked.kinds == ("short", "long")
    if name == "ac":
        dynamics, cem = size.config.model.dynamics, size.planner.cem
        assert (dynamics.kind, dynamics.depth, dynamics.width) == ("ac", 24, 1024)
        assert (cem.samples, cem.iterations, size.planner.horizon) == (800, 10, 1)


def test_bad_input_is_one_line(tmp_path, capsys):
    with pytest.raises(ConfigError, match="sizes: expected some of laptop"):
        latency_size("vit_enormous")
    with pytest.raises(ConfigError, match="repeats 0"):
        measure_latency({"tiny": tiny_size(tmp_path)}, CPU, repeats=0)
    assert main(["eval", "latency", "--sizes", "huge"]) == 2
    assert "found 'huge'" in capsys.readouterr().err
    assert main(["eval", "latency", "--threads", "0"]) == 2
    assert "--threads: expected at least 1, found 0" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match="found cuda, but torch sees no CUDA device"):
        measure_latency({"tiny": tiny_size(tmp_path)}, torch.device("cuda"))


@pytest.mark.cuda
def test_a_cuda_device_adds_its_memory_and_takes_bf16(tmp_path):
    report = measure_latency({"tiny": tiny_size(tmp_path)}, torch.device("cuda"), repeats=1)
    assert report["precision"] == "bf16"
    assert report["metrics"]["tiny_train_peak_mb"] > report["metrics"]["tiny_encode_peak_mb"] > 0
