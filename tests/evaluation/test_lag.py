"""The lag scan on recordings whose lag is known, and on the real ones."""

import json

import numpy as np
import pytest
import torch
from driven_camera import Drive, DrivenCamera

from jepa_actions.data import Episode, Provenance, load_dataset
from jepa_actions.errors import ConfigError, DataError
from jepa_actions.evaluation.flow import grey, motion_features, optical_flow
from jepa_actions.evaluation.lag import parse_lags, scan_lag
from jepa_actions.evaluation.lag_probe import blocks_of, held_out_errors
from jepa_actions.evaluation.lag_rows import PIECE, stretches, targets
from jepa_actions.evaluation.lag_view import lag_table, plot_lag

QUICK = {"shuffles": 20, "resamples": 200}


def texture(height, width, seed=0):
    rough = torch.rand(1, 1, height // 4, width // 4, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(rough, size=(height, width), mode="bicubic", align_corners=False)


@pytest.mark.parametrize("shift", [(0, 0), (1, 0), (0, -2), (3, 2), (-5, 1)])
def test_flow_of_a_shifted_texture(shift):
    dx, dy = shift
    large = texture(80, 100)
    before, after = large[..., 20:52, 20:68], large[..., 20 - dy : 52 - dy, 20 - dx : 68 - dx]
    flow = optical_flow(before, after)
    middle = flow[0, :, 8:-8, 8:-8].flatten(1).median(dim=1).values
    torch.testing.assert_close(middle, torch.tensor([float(dx), float(dy)]), atol=0.15, rtol=0)
    torch.testing.assert_close(optical_flow(after, before), -flow)


def test_flow_sees_no_motion_in_brightness_or_in_nothing():
    picture = texture(32, 48)
    assert optical_flow(picture, picture * 0.95 + 0.02).abs().mean() < 0.1, "dimmed a little"
    assert optical_flow(picture, picture + 0.2).abs().max() < 1e-3, "brightened"
    blank = torch.full((1, 1, 32, 48), 0.5)
    grain = torch.randn(1, 1, 32, 48, generator=torch.Generator().manual_seed(1))
    assert optical_flow(blank, blank + 0.004 * grain).abs().mean() < 0.1, "a grey level of noise is no motion"


def test_features_are_shares_of_the_short_side_in_batches_of_any_size():
    large = (texture(240, 480) * 255).clamp(0, 255).byte().expand(-1, 3, -1, -1)
    frames = torch.cat([large[..., 20:180, 4 * k + 20 : 4 * k + 260] for k in range(40)])
    features = motion_features(grey(frames))
    assert features.shape == (39, 48)
    across, down = features[:, :24], features[:, 24:]
    assert across.median().item() == pytest.approx(-4 / 160, rel=0.1), (
        "what is seen moves left as the camera pans right"
    )
    assert down.abs().median() < 4e-3
    torch.testing.assert_close(motion_features(grey(frames[30:36])), features[30:35], atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("lag", [-3, 0, 4, 6])
def test_known_lags_in_spite_of_a_driver_who_reacts(lag):
    report = scan_lag(DrivenCamera(Drive(lag), seed=lag + 3), **QUICK)
    metrics = report["metrics"]
    assert metrics["best_lag"] == {"steer": lag}, "and the horn, which moves nothing, is not there"
    assert metrics["lag"] == lag
    assert metrics["explained"] == {"steer": 1, "horn": 0}
    assert metrics["reliable"] == {"steer": 1}
    assert metrics["r2"]["steer"] > 0.8
    low, high = report["ci95"]["r2"]["steer"]
    assert low < metrics["r2"]["steer"] < high
    assert report["ci95"]["best_lag"]["steer"] == [lag, lag]
    assert metrics["appearance_peak"]["steer"] < 0, "one frame finds the driver's reaction"
    assert metrics["appearance_r2"]["steer"] > 0.35
    assert metrics["r2"]["steer"] > report["floors"]["shuffled"]["r2"]["steer"] + 0.2
    assert report["floors"]["mean"]["r2"] == {"steer": 0.0, "horn": 0.0}
    json.dumps(report, allow_nan=False)


@pytest.mark.parametrize(
    "drives",
    [
        [Drive(2, hold=3, persistence=0.98)],
        [Drive(2, noise=20.0)],
        [Drive(2, frames=45)] * 6,
        [Drive(2, size=(96, 72), speed=3.0)],
        [Drive(2, own=0.05, persistence=0.98)],
    ],
    ids=["held actions", "noisy frames", "short episodes", "larger frames", "all reaction"],
)
def test_lags_in_harder_recordings(drives):
    assert scan_lag(DrivenCamera(*drives, seed=1, still=False), **QUICK)["metrics"]["best_lag"] == {"steer": 2}


def test_each_episode_may_look_its_own_way():
    """Half of the cameras are mounted upside down: no one probe fits all, one for each episode does."""
    data = DrivenCamera(*[Drive(1, frames=90, own=1.0, shake=0.1) for _ in range(6)], seed=2, still=False)
    data.images["front"] = [x[..., ::-1, ::-1].copy() if i % 2 else x for i, x in enumerate(data.images["front"])]
    metrics = scan_lag(data, range(-4, 5), **QUICK)["metrics"]
    assert metrics["best_lag"] == {"steer": 1}
    assert metrics["r2"]["steer"] > 0.4


def test_two_cameras_one_of_which_is_blind():
    data = DrivenCamera(Drive(3), seed=3, still=False)
    data.cameras = ("blind", "front")
    noise = np.random.default_rng(0).integers(0, 255, (200, 3, 20, 30), dtype=np.uint8)
    data.images = {"blind": [noise], "front": data.images["front"]}
    report = scan_lag(data, **QUICK)
    assert report["metrics"]["best_lag"] == {"steer": 3}
    assert report["cameras"] == ["blind", "front"]


def test_actions_that_move_nothing_are_not_found():
    """As slow as the ones that do, so that chance alone explains much of them in a short recording."""
    data = DrivenCamera(Drive(0), seed=4, still=False)
    generator = np.random.default_rng(5)
    walk = np.zeros((199, 24))
    for t in range(1, 199):
        walk[t] = 0.95 * walk[t - 1] + generator.normal(size=24)
    data.actions, data.action_names = [walk.astype(np.float32)], tuple("abcdefghijklmnopqrstuvwx")
    metrics = scan_lag(data, shuffles=50, resamples=200)["metrics"]
    assert max(metrics["r2"].values()) > 0.1, "a score that looks like something"
    assert len(metrics["best_lag"]) <= 2


def test_a_recording_that_explains_nothing():
    data = DrivenCamera(Drive(0), seed=4)
    data.actions = [np.random.default_rng(6).normal(size=(199, 2)).astype(np.float32)]
    data.actions[0][:, 1] = 0.5
    report = scan_lag(data, **QUICK)
    assert report["metrics"]["best_lag"] == {}
    assert "lag" not in report["metrics"]
    assert report["metrics"]["r2"]["horn"] == 0.0, "a constant"
    assert lag_table(report).count("not found") == 2
    json.dumps(report, allow_nan=False)


def test_a_lag_outside_the_scan_is_not_called_reliable():
    report = scan_lag(DrivenCamera(Drive(5), still=False), range(-2, 4), **QUICK)
    assert report["metrics"]["best_lag"] == {"steer": 3}
    assert report["metrics"]["reliable"] == {"steer": 0}
    assert "scan further" in lag_table(report)


def test_where_one_frame_tells_more_the_lag_is_not_called_reliable():
    report = scan_lag(DrivenCamera(Drive(2, shake=3.0, own=0.1), seed=5, still=False), **QUICK)
    assert report["metrics"]["appearance_r2"]["steer"] > report["metrics"]["r2"]["steer"]
    assert not any(report["metrics"]["reliable"].values())


def test_unknown_and_inferred_actions_do_not_count():
    data = DrivenCamera(Drive(2, frames=300), seed=6, still=False)
    origins = np.zeros(299, dtype=np.int64)
    origins[150:] = Provenance.PSEUDO
    mask = np.arange(299) % 10 != 0
    data.actions[0][150:] = 1e6
    data.actions[0][~mask] = np.nan
    data.labels = {"action_mask": mask, "provenance": origins, "labeller": "m"}
    report = scan_lag(data, **QUICK)
    assert report["metrics"]["best_lag"] == {"steer": 2}
    assert report["metrics"]["rows"] == sum(mask[8:150])


def test_sources():
    angle = np.array([[3.0], [3.1], [-3.1], [-3.0]], dtype=np.float32)
    pose = np.concatenate([np.arange(4, dtype=np.float32)[:, None], angle], axis=1)
    episode = Episode(0, 5, actions=pose, proprio=np.concatenate([pose, pose[-1:]]))
    names = ("x", "wrist_yaw")
    values, known = targets(episode, "proprio_difference", names)
    turn = 2 * np.pi - 6.2
    np.testing.assert_allclose(values, [[1, 0.1], [1, turn], [1, 0.1], [0, 0]], atol=1e-6)
    assert known.all()
    values, known = targets(episode, "action_difference", names)
    np.testing.assert_allclose(values, [[0, 0], [1, 0.1], [1, turn], [1, 0.1]], atol=1e-6)
    assert known.tolist() == [False, True, True, True]
    values, _ = targets(episode, "action", names)
    np.testing.assert_array_equal(values, pose)
    missing = Episode(0, 5, actions=pose, action_mask=np.array([True, False, True, True]))
    assert targets(missing, "action_difference", names)[1].tolist() == [False, False, False, True]
    assert not targets(missing, "proprio_difference", names)[1].any()


@pytest.mark.parametrize("lead", [0, 1])
def test_poses_and_commands_of_poses(lead):
    """The pose is where the camera is; the command is the pose wanted, `lead` frames before it is there."""
    drive = Drive(0, reaction=0, own=1.0)
    data = DrivenCamera(drive, still=False)
    moved = np.concatenate([[0.0], np.cumsum(data.actions[0][:, 0])])
    data.proprio, data.proprio_names = [moved[:, None].astype(np.float32)], ("x",)
    ahead = np.concatenate([moved[1 + lead :], np.full(lead, moved[-1])])
    data.actions = [ahead[:, None].astype(np.float32)]
    assert scan_lag(data, source="proprio_difference", **QUICK)["metrics"]["best_lag"] == {"x": 0}
    assert scan_lag(data, source="action_difference", **QUICK)["metrics"]["best_lag"] == {"steer": lead}


def test_reads_no_more_than_its_limit():
    reads = []
    data = DrivenCamera(*[Drive(1, frames=120)] * 12, still=False, reads=reads)
    report = scan_lag(data, limit=400, **QUICK)
    assert 400 <= report["frames"] <= 520
    assert sum(b * t for b, t in reads) <= 600
    assert report["episodes"] == report["frames"] // 120
    lengths = np.array([100_000, 5, 30])
    chosen = stretches(lengths, limit=3000, shortest=25, seed=0)
    assert 3000 <= sum(map(len, chosen)) <= 3000 + PIECE
    assert {len(s) for s in chosen} <= {PIECE, 30}
    assert chosen == stretches(lengths, limit=3000, shortest=25, seed=0)
    assert [s.episode for s in stretches(lengths, limit=10**9, shortest=25, seed=0)] == [0, 2]


def test_short_episodes_are_counted():
    report = scan_lag(DrivenCamera(Drive(1), Drive(1, frames=12), still=False), **QUICK)
    assert (report["left_out"], report["episodes"]) == (1, 1)


def test_blocks_are_held_out_with_a_gap():
    """A feature that names its own row explains nothing held out; one that names the target explains all."""
    generator = np.random.default_rng(0)
    stretch, frame = np.repeat([0, 1], 100), np.tile(np.arange(100), 2)
    block, fold = blocks_of(stretch, frame)
    assert np.bincount(block).min() >= 10
    assert all(len(np.unique(fold[block == b])) == 1 for b in np.unique(block))
    assert all(len(np.unique(fold[stretch == s])) == 5 for s in (0, 1))
    target = generator.normal(size=(200, 1))
    place = np.arange(200)
    perfect = held_out_errors(target.copy(), place, [0], target, stretch, frame).r2()
    assert perfect.max() > 0.99
    names = np.eye(200)
    assert held_out_errors(names, place, [0], target, stretch, frame).r2().max() < 0.02
    offset = target + 100.0 * stretch[:, None]
    shifted = held_out_errors(target.copy(), place, [0], offset, stretch, frame)
    np.testing.assert_allclose(shifted.r2(), perfect, atol=1e-9)


@pytest.mark.parametrize(("text", "found"), [("-8:8", (-8, 8)), ("0:3", (0, 3)), ("-5:-2", (-5, -2))])
def test_lags_on_the_command_line(text, found):
    lags = parse_lags(text)
    assert (lags[0], lags[-1]) == found
    assert list(lags) == list(range(found[0], found[1] + 1))


@pytest.mark.parametrize("text", ["8", "8:-8", "a:b", "", "1:1", "-8:8:2", "0.5:2"])
def test_no_lags(text):
    with pytest.raises(ConfigError, match=r"--scan-lag: found .*such as -8:8"):
        parse_lags(text)


def test_what_is_refused():
    data = DrivenCamera(Drive(0, frames=60))
    with pytest.raises(ConfigError, match="consecutive"):
        scan_lag(data, [0, 2, 4])
    with pytest.raises(ConfigError, match=r"source: found 'state', expected one of action, "):
        scan_lag(data, source="state")
    with pytest.raises(DataError, match="driven: has no proprioception"):
        scan_lag(data, source="proprio_difference")
    with pytest.raises(DataError, match=r"driven: 0 known actions .* longest episode has 60 frames"):
        scan_lag(data, range(-30, 31))
    data.actions[0][20, 1] = np.inf
    with pytest.raises(DataError, match="episode 0, frame 20, action horn: found inf"):
        scan_lag(data)
    data.action_names = None
    with pytest.raises(DataError, match="driven: has no actions"):
        scan_lag(data)


def test_same_seed_same_report():
    one, two = (scan_lag(DrivenCamera(Drive(1, frames=100)), range(-3, 4), **QUICK) for _ in range(2))
    for key in ("metrics", "curves", "ci95", "floors", "wins"):
        assert one[key] == two[key]


def test_table_and_plot(tmp_path):
    report = scan_lag(DrivenCamera(Drive(2, frames=120)), range(-4, 5), **QUICK)
    table = lag_table(report)
    assert table.count("appearance") == 2
    assert "steer: +2 (leads what is seen by 0.10 s" in table
    assert "horn: not found" in table
    plot_lag(report, tmp_path / "lag.png")
    assert (tmp_path / "lag.png").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(ConfigError, match="cannot be written"):
        plot_lag(report, tmp_path / "nowhere" / "lag.png")


def test_donkeycar(real_data):
    report = scan_lag(load_dataset(real_data / "donkeycar"))
    metrics = report["metrics"]
    assert 3 <= metrics["best_lag"]["steering"] <= 6
    assert metrics["reliable"]["steering"]
    assert metrics["r2"]["steering"] > 0.7
    assert "throttle" not in metrics["best_lag"]
    assert metrics["appearance_peak"]["steering"] < 0, "the sign of a reaction"


@pytest.mark.slow
@pytest.mark.parametrize(("source", "most"), [("proprio_difference", 1), ("action_difference", 2)])
@pytest.mark.parametrize("cameras", [None, ["exterior"]])
def test_droid_franka(real_data, source, most, cameras):
    metrics = scan_lag(load_dataset(real_data / "droid_franka", cameras=cameras), source=source)["metrics"]
    assert metrics["best_lag"], "something is explained"
    assert all(0 <= lag <= most for lag in metrics["best_lag"].values())
    assert 0 <= metrics["lag"] <= most


@pytest.mark.slow
def test_bias_over_many_recordings():
    """Over lags, autocorrelations and frame counts the error of the lag has no direction."""
    errors = [
        scan_lag(DrivenCamera(Drive(lag, persistence=p, frames=n), seed=seed, still=False), **QUICK)["metrics"]["lag"]
        - lag
        for lag in (-3, 0, 3, 6)
        for p in (0.8, 0.95, 0.99)
        for n in (120, 240)
        for seed in range(2)
    ]
    assert abs(np.mean(errors)) <= 0.05
    assert np.mean(np.abs(errors) <= 1) >= 0.95
