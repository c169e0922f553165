"""TwoRoom: the state of its distractors, as four more numbers of a state row.

`[key, clock, camera x, camera y]`: an integer that the episode drew, the frame's number in the episode, and by how many
px the camera is shifted. The other dots, the noise and the background are functions of key and clock alone; the shift
depends on the last action too, so it is kept. All are integers, so that float32 holds them exactly.
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from jepa_actions.envs.counter_hash import bytes_of, hashed
from jepa_actions.envs.two_room_distractors import Distractors
from jepa_actions.envs.two_room_geometry import TwoRoomConfig
from jepa_actions.errors import DataError, ShapeError

SCENERY_NAMES = ("scenery key", "clock [steps]", "camera x [px]", "camera y [px]")
KEYS = 2**24  # float32 holds integers up to here
LATEST = 1000  # steps: a frame's clock is drawn below it where the episode does not tell
MOST_SHIFT = 12  # px
FROM_ACTION, BY_ITSELF = 0.8, 0.6  # of the camera's shift; squares add up to 1
MOTION, REST, SHIFT, NOISE, BACKGROUND = range(1, 6)  # streams of random numbers
UNITS = 512  # of a px: dots move in whole ones
_KEYS = 2**63 + 2**62  # numpy streams that neither episodes nor layouts use


def has_scenery(config: TwoRoomConfig) -> bool:
    """Whether states carry a scenery: off in the plain room, and where only colours or the texture differ."""
    return config.distractors is not None and config.distractors.episodic


def episode_keys(episodes: int, seed: int) -> Float[Tensor, "e"]:
    """The keys of behaviour episodes: of each a function of seed and number."""
    keys = [
        np.random.Generator(np.random.Philox(key=np.array([seed, _KEYS + e], dtype=np.uint64))).integers(KEYS)
        for e in range(episodes)
    ]
    return torch.tensor(keys, dtype=torch.float32)


def drawn_scenery(n: int, generator: torch.Generator, config: TwoRoomConfig) -> Float[Tensor, "n 4"]:
    """Sceneries of moments of other episodes."""
    device = generator.device
    keys = torch.randint(KEYS, (n,), generator=generator, device=device).float()
    clocks = torch.randint(LATEST, (n,), generator=generator, device=device).float()
    return _row(keys, clocks, _shift(None, keys, clocks, config))


def goal_scenery(
    start: Float[Tensor, "n 4"], generator: torch.Generator, config: TwoRoomConfig
) -> Float[Tensor, "n 4"]:
    """Sceneries of goal pictures: nothing of the start's, or with `shared_goal` another moment of the same episode."""
    other = drawn_scenery(len(start), generator, config)
    if not _distractors(config).shared_goal:
        return other
    return _row(start[:, 0], other[:, 1], _shift(None, start[:, 0], other[:, 1], config))


def scenery_of_episodes(
    keys: Float[Tensor, "e"], actions: Float[Tensor, "e t-1 2"], config: TwoRoomConfig
) -> Float[Tensor, "e t 4"]:
    """The scenery of every frame of whole episodes, whose clock begins at 0."""
    clock = torch.arange(actions.shape[1] + 1, dtype=torch.float32).expand(len(keys), -1)
    key = keys[:, None].expand_as(clock)
    first = _shift(None, key[:, :1], clock[:, :1], config)
    return _row(key, clock, torch.cat([first, _shift(actions, key[:, 1:], clock[:, 1:], config)], dim=1))


def next_scenery(
    scenery: Float[Tensor, "*b 4"], actions: Float[Tensor, "*b 2"], config: TwoRoomConfig
) -> Float[Tensor, "*b 4"]:
    """The scenery one step later; leading dimensions broadcast."""
    leading = torch.broadcast_shapes(scenery.shape[:-1], actions.shape[:-1])
    key, clock = scenery[..., 0].expand(leading), scenery[..., 1].expand(leading) + 1
    return _row(key, clock, _shift(actions.expand(*leading, 2), key, clock, config))


def check_scenery(scenery: Tensor | None, n: int, config: TwoRoomConfig) -> None:
    """Raise ShapeError unless there is a scenery (n, 4), float32, exactly where the configuration asks for one, and
    DataError unless it holds integers that it can have."""
    wanted = has_scenery(config)
    given = scenery is not None
    if given != wanted or (scenery is not None and (scenery.shape != (n, 4) or scenery.dtype != torch.float32)):
        found = None if scenery is None else f"{tuple(scenery.shape)} {scenery.dtype}"
        expected = f"({n}, 4) torch.float32, [{', '.join(SCENERY_NAMES)}]" if wanted else "None: no distractor is on"
        raise ShapeError(f"TwoRoom state scenery: found {found}, expected {expected}")
    if scenery is None:
        return
    key, clock, shift = scenery[:, 0], scenery[:, 1], scenery[:, 2:]
    good = (key >= 0) & (key < KEYS) & (clock >= 0) & (clock < KEYS) & (shift.abs() <= MOST_SHIFT).all(-1)
    good &= (scenery == scenery.round()).all(-1)
    if not bool(good.all()):
        row = int((~good).nonzero()[0, 0])
        raise DataError(
            f"TwoRoom state scenery: found {scenery[row].tolist()} in row {row}, expected integers: a key and a clock "
            f"from 0, a camera within {MOST_SHIFT} px"
        )


def dot_places(scenery: Float[Tensor, "n 4"], stream: int, config: TwoRoomConfig) -> Float[Tensor, "n 2"]:
    """Where the other dot is, px: with stream `MOTION` on its straight way from border to border, with `REST` at its
    place. In whole 1/512 px, so that no rounding differs between devices."""
    key, clock = scenery[:, 0].long(), scenery[:, 1].long()
    low, high = round((config.low + 2) * UNITS), round((config.high - 2) * UNITS)
    span = high - low
    start = torch.stack([hashed(key, stream, axis) % (2 * span) for axis in range(2)], dim=-1)
    if stream == MOTION:
        angle = hashed(key, stream, 2) & 255
        start = start + _directions(scenery.device)[angle] * clock[:, None]
    along = start % (2 * span)
    return (low + torch.minimum(along, 2 * span - along)).float() / UNITS


def _directions(device: torch.device) -> Int[Tensor, "256 2"]:
    """256 directions of 1 px, in whole 1/512 px."""
    angle = torch.arange(256, dtype=torch.float64) * (2 * torch.pi / 256)
    return (UNITS * torch.stack([angle.cos(), angle.sin()], dim=-1)).round().long().to(device)


def _shift(
    actions: Float[Tensor, "*b 2"] | None, key: Float[Tensor, "*b"], clock: Float[Tensor, "*b"], config: TwoRoomConfig
) -> Float[Tensor, "*b 2"]:
    """Whole px; without an action, as in an episode's first frame, all of it by itself."""
    size = _distractors(config).jitter
    if size == 0.0:
        return torch.zeros(*key.shape, 2, device=key.device)
    random = bytes_of(hashed(key.long(), SHIFT, clock.long()))
    # The middle of a byte's share of a uniform distribution of standard deviation 1.
    itself = torch.stack([(byte.float() - 127.5) * (12**0.5 / 256) for byte in random[:2]], dim=-1)
    if actions is None:
        moved = itself
    else:
        norm = actions.square().sum(-1, keepdim=True).sqrt()
        moved = FROM_ACTION * (actions * (config.max_step / norm).clamp(max=1.0)) + BY_ITSELF * itself
    return (size * moved).round().clamp(-MOST_SHIFT, MOST_SHIFT) + 0.0  # no negative zeros


def _row(key: Float[Tensor, "*b"], clock: Float[Tensor, "*b"], shift: Float[Tensor, "*b 2"]) -> Float[Tensor, "*b 4"]:
    return torch.cat([key[..., None], clock[..., None], shift], dim=-1)


def _distractors(config: TwoRoomConfig) -> Distractors:
    return Distractors() if config.distractors is None else config.distractors
