import pytest

from jepa_actions.training import OptimConfig, learning_rate
from jepa_actions.training.schedules import active


def test_warm_up_then_cosine_to_the_final_share():
    config = OptimConfig(steps=110, lr=2.0, warmup=10 / 110, final_lr=0.1)
    assert [learning_rate(step, config) for step in (0, 4, 9)] == pytest.approx([0.2, 1.0, 2.0])
    assert learning_rate(10, config) == pytest.approx(2.0)
    assert learning_rate(60, config) == pytest.approx((0.1 + 0.9 * 0.5) * 2.0)  # half way down
    assert learning_rate(110, config) == learning_rate(500, config) == pytest.approx(0.2)
    falling = [learning_rate(step, config) for step in range(10, 111)]
    assert falling == sorted(falling, reverse=True)


def test_without_warm_up_the_first_step_already_learns():
    assert learning_rate(0, OptimConfig(steps=100, lr=1.0, warmup=0.0)) == 1.0


@pytest.mark.parametrize(
    ("start", "stop", "expected"),
    [(0.0, 1.0, range(10)), (0.3, 0.7, range(3, 7)), (0.5, 1.0, range(5, 10)), (0.0, 0.2, range(2)), (0.0, 0.0, [])],
)
def test_a_term_is_active_from_start_to_stop(start, stop, expected):
    assert [step for step in range(10) if active(start, stop, step, 10)] == list(expected)


def test_the_last_step_belongs_to_a_term_that_never_stops():
    assert active(0.0, 1.0, 10, 10)
    assert not active(0.0, 0.99, 10, 10)
