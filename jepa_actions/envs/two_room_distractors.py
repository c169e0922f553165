"""TwoRoom: what its pictures may show beside agent and walls, as configuration. Nothing of it moves the agent."""

from dataclasses import dataclass, fields

from jepa_actions.errors import ConfigError

Colour = tuple[int, int, int]  # RGB, 0 to 255


@dataclass(frozen=True)
class Distractors:
    """What is drawn beside agent and walls, and in which colours; all of it can be put together.

    Levels are those of a picture, 0 to 255. Raises ConfigError for a level, shift or colour that no picture has.
    """

    moving_dot: bool = False  # a second dot, which goes its own way at 1 px per step, walls or not
    static_dot: bool = False  # one that stays where it is for an episode
    noise: float = 0.0  # standard deviation of pixel noise, new in every frame
    background: float = 0.0  # contrast of large patches of colour, other ones in every episode
    texture: float = 0.0  # contrast of a fine pattern, the same in every episode
    jitter: float = 0.0  # px that the camera is shifted per px of the last action, four fifths of it the action's
    # Goal pictures have a scenery of their own; True lets them keep the background and the resting dot of the episode.
    shared_goal: bool = False
    agent: Colour = (255, 0, 0)
    walls: Colour = (0, 255, 0)
    floor: Colour = (0, 0, 0)
    dots: Colour = (0, 0, 255)  # of the other dots

    def __post_init__(self) -> None:
        limits = {"noise": 128.0, "background": 255.0, "texture": 255.0, "jitter": 4.0}
        for key, most in limits.items():
            if not 0 <= getattr(self, key) <= most:
                raise ConfigError(f"Distractors.{key}: found {getattr(self, key)}, expected 0 to {most:g}")
        for key in ("agent", "walls", "floor", "dots"):
            colour = getattr(self, key)
            if len(colour) != 3 or not all(isinstance(level, int) and 0 <= level <= 255 for level in colour):
                raise ConfigError(f"Distractors.{key}: found {colour}, expected three integers from 0 to 255")

    @property
    def episodic(self) -> bool:
        """Whether pictures show more than agent and layout tell, so that states have a scenery (`two_room_scenery`)."""
        return self.moving_dot or self.static_dot or max(self.noise, self.background, self.jitter) > 0

    def changes(self) -> dict[str, object]:
        """What is not as in the plain room, for tables and reports."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}
