"""Rows, means, the progress line, and what a step's FLOPs are."""

import copy
import json

import pytest
import torch
from tiny_world import ALL_TERMS, tiny_batch, tiny_recipe, tiny_world
from torch import nn

from jepa_actions.nn import set_gradient_checkpointing
from jepa_actions.objectives import MaskedConfig
from jepa_actions.training import Ema, ObjectivesConfig, TrainingModule, train
from jepa_actions.training.flops import ModelFlops, StepFlops, flops_of_copy, matrix_product_rate
from jepa_actions.training.metric_log import Means, append_row, events_until, read_rows
from jepa_actions.training.progress import Progress, duration, summary
from jepa_actions.training.step_clock import StepClock

CPU = torch.device("cpu")


def test_a_mean_is_over_the_steps_that_have_the_value():
    means = Means()
    means.add({"loss": torch.tensor(1.0), "late": torch.tensor(5.0)})
    means.add({"loss": torch.tensor(4.0)})
    assert means.steps() == 2
    assert means.take() == {"loss": 2.5, "late": 5.0}
    assert means.steps() == 0
    assert means.take() == {}


def test_rows_are_read_up_to_the_one_that_a_kill_cut_short(tmp_path):
    path = tmp_path / "rows.jsonl"
    assert read_rows(path) == []
    append_row(path, {"step": 1, "loss": 0.5})
    with path.open("a") as file:
        file.write('{"step": 2, "lo')
    assert read_rows(path) == [{"step": 1, "loss": 0.5}]


def test_events_of_steps_that_will_be_done_again_go(tmp_path):
    path = tmp_path / "events.jsonl"
    for step in (1, 10, 30):
        append_row(path, {"step": step, "event": "collapse"})
    assert [row["step"] for row in events_until(path, 20)] == [1, 10]
    assert [row["step"] for row in read_rows(path)] == [1, 10]
    assert events_until(path, 0) == []
    assert read_rows(path) == []


ROW = {"loss": 1.25, "masked/total": 0.5, "masked/future": 9.0, "z/rank": 23.1, "clips_per_second": 412.3, "mfu": 0.314}


def test_the_line_has_terms_rank_pace_and_utilisation():
    assert summary(ROW) == "loss 1.25 (masked 0.5), rank 23.1, 412 clips/s, MFU 31%"
    assert summary(ROW | {"starved": 0.4}).endswith("40% waiting for data")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(12.4, "12 s"), (89.0, "89 s"), (600.0, "10 min"), (11_100.0, "3 h 05 min"), (187_200.0, "2 d 4 h")],
)
def test_time_left_is_in_its_own_unit(seconds, text):
    assert duration(seconds) == text


def test_where_nobody_watches_a_line_is_printed_per_row_with_the_time_left(capsys):
    progress = Progress("run", 0, 100, silent=False)
    for _ in range(10):
        progress.stepped()
    progress.show(ROW | {"step_seconds": 2.0})
    assert capsys.readouterr().out == f"run 10/100: {summary(ROW)}, 3 min left\n"
    Progress("run", 0, 100, silent=True).show(ROW | {"step_seconds": 2.0})
    assert capsys.readouterr().out == ""


def test_a_run_logs_its_time_and_prints_lines(tmp_path, capsys):
    train(tiny_recipe(tmp_path, steps=9, log_every=3, checkpoint_every=0))
    rows = read_rows(tmp_path / "run" / "metrics.jsonl")
    for row in rows:
        assert 0.0 <= row["data_seconds"] < row["step_seconds"]
        assert row["starved"] == pytest.approx(row["data_seconds"] / row["step_seconds"])
        assert row["clips_per_second"] == pytest.approx(8 / row["step_seconds"])
        assert 0.0 < row["mfu"] < 2.0
    assert rows[1]["mfu"] * rows[1]["step_seconds"] == pytest.approx(rows[2]["mfu"] * rows[2]["step_seconds"])
    printed = capsys.readouterr().out
    assert [f"run {step}/9: loss " in printed for step in (3, 6, 9)] == [True] * 3
    assert "clips/s" in printed


def test_the_first_step_is_measured_and_its_meters_are_part_of_no_row(tmp_path):
    rows = []
    for every in (1, 3):
        train(tiny_recipe(tmp_path / str(every), steps=3, log_every=every, checkpoint_every=0), quiet=True)
        rows.append(read_rows(tmp_path / str(every) / "run" / "metrics.jsonl")[-1])
        (start,) = read_rows(tmp_path / str(every) / "run" / "events.jsonl")
        assert start["event"] == "start"
        assert {"loss", "z/rank", "z/clips"} <= set(start)
    assert rows[0]["z/rank"] == rows[1]["z/rank"]


# -- FLOPs -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def step():
    """A training module, and what takes its loss."""
    config = tiny_recipe(".", ObjectivesConfig(masked=MaskedConfig(share=1.0), forward=ALL_TERMS.forward))
    model = tiny_world().train()
    ema = Ema(model, 0.9, 0.9, 10)
    batch = tiny_batch()
    return TrainingModule(model, config), lambda module: module(batch, ema.target, 0, 0, False)[0]


def gradients(module: nn.Module, loss) -> list[torch.Tensor]:
    module.zero_grad()
    loss(module).backward()
    return [weight.grad.clone() for weight in module.parameters() if weight.grad is not None]


def test_counting_changes_no_number(step):
    module, loss = step
    buffers = copy.deepcopy(dict(module.named_buffers()))
    plain = gradients(module, loss)
    for name, buffer in module.named_buffers():
        buffer.copy_(buffers[name])
    with ModelFlops() as counter:
        counted = gradients(module, loss)
    assert counter.total() > 0
    assert all(torch.equal(one, two) for one, two in zip(plain, counted, strict=True))


def test_a_matrix_product_with_its_gradients_is_three():
    layer, x = nn.Linear(8, 16, bias=False), torch.randn(4, 8, requires_grad=True)
    with ModelFlops() as counter:
        layer(x).sum().backward()
    assert counter.total() == 3 * 2 * 4 * 8 * 16


def test_what_a_checkpointed_block_computes_again_does_not_count(step):
    module, loss = step
    totals = []
    for on in (False, True):
        set_gradient_checkpointing(module, on)
        with ModelFlops() as counter:
            gradients(module, loss)
        totals.append(counter.total())
    set_gradient_checkpointing(module, on=False)
    assert totals[0] == totals[1]


def test_a_copy_has_the_same_flops_and_the_module_stays_as_it_is(step):
    module, loss = step
    with ModelFlops() as counter:
        before = gradients(module, loss)
    state = copy.deepcopy(module.state_dict())
    assert flops_of_copy(module, lambda twin: loss(twin).backward()) == counter.total()
    now = [weight.grad for weight in module.parameters() if weight.grad is not None]
    assert all(torch.equal(one, two) for one, two in zip(before, now, strict=True))
    assert all(torch.equal(state[name], value) for name, value in module.state_dict().items())


def test_a_step_is_counted_once_and_again_when_terms_begin():
    flops, x = StepFlops(always_measured=False, compiled=False), torch.ones(2, 2)

    def do(times: int, terms: set[str], measured: bool = False) -> int | None:
        with flops.counting(measured):
            for _ in range(times):
                x @ x
        flops.step_done(frozenset(terms))
        return flops.flops

    one = 2 * 2 * 2 * 2
    assert do(9, {"a"}, measured=True) is None, "a step with meters was counted"
    assert do(1, {"a"}) == one
    assert do(5, {"a"}) == one
    assert do(5, {"a", "b"}) == one, "counted before its terms were known"
    assert do(3, {"a", "b"}) == 3 * one


def test_a_rate_is_measured_without_touching_the_generator_of_training():
    before = torch.get_rng_state()
    assert matrix_product_rate(CPU, "float32", size=64, repeats=1, seconds=0.01) > 0
    assert torch.equal(before, torch.get_rng_state())


# -- the clock -------------------------------------------------------------------------------------------------------


def test_every_second_belongs_to_one_part():
    ticks = iter(range(100))
    clock = StepClock(CPU, now=lambda: float(next(ticks)))
    clock.restart()  # 1
    for batch in clock.waiting(["a", "b"]):  # other, data
        assert batch in "ab"
        clock.lap("forward")
    found = clock.take()
    assert found == {"other": 3.0, "data": 2.0, "forward": 2.0, "starved": 2.0}
    assert clock.take() == {"starved": 0.0}


def test_rows_are_plain_json(tmp_path):
    train(tiny_recipe(tmp_path, steps=1, checkpoint_every=0), quiet=True)
    (line,) = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert all(isinstance(value, (int, float)) for value in json.loads(line).values())
