"""PointMaze: its sizes and its dynamics, in one frozen configuration.

Coordinates. A maze is `cells` x `cells` square cells, each free or solid, inside a solid border. A position is `[x, y]`
in cells: cell (i, j) covers `[i, i + 1) x [j, j + 1)`; x grows to the right and y downwards.
"""

from dataclasses import dataclass

from jepa_actions.errors import ConfigError

MARGIN = 1e-4
"""Cells kept between a stopped ball and the wall it met: far above float32 rounding (5e-7 at 6), far below a pixel."""

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class PointMazeConfig:
    """Sizes and dynamics of PointMaze; lengths in cells, speeds in cells per environment step.

    A step sets v' = damping * v + gain * a, each component clamped to `max_speed`, and moves by v'. As published, full
    throttle approaches `gain / (1 - damping)` = 0.2 cells per step and never meets the clamp, so that in free space an
    action can always be read off two states.

    Raises ConfigError, naming the field, for a world that cannot be.
    """

    cells: int = 6
    mazes: int = 60  # the catalogue's size; a longer catalogue begins with the shorter one
    image_size: int = 64
    radius: float = 0.25  # the ball's; walls stop its bounding square
    damping: float = 0.8
    gain: float = 0.04
    max_speed: float = 0.2
    substeps: int = 2
    success_radius: float = 0.5
    floor: Colour = (24, 24, 32)
    wall: Colour = (96, 128, 176)
    ball: Colour = (255, 96, 48)

    def __post_init__(self) -> None:
        if not 5 <= self.cells <= 8:
            raise ConfigError(f"PointMazeConfig.cells: found {self.cells}, expected 5 to 8")
        if not 5 <= self.mazes <= 200:
            raise ConfigError(f"PointMazeConfig.mazes: found {self.mazes}, expected 5 to 200")
        if self.cell_pixels < 6 or (self.image_size - self.cells * self.cell_pixels) % 2:
            raise ConfigError(
                f"PointMazeConfig.image_size: found {self.image_size}, expected at least {6 * self.cells + 4} px, and "
                f"the same border on both sides of {self.cells} cells of {self.cell_pixels} px"
            )
        if not 0.1 <= self.radius <= 0.4:
            raise ConfigError(f"PointMazeConfig.radius: found {self.radius}, expected 0.1 to 0.4 cells")
        if not 0.0 <= self.damping <= 1.0 or self.gain <= 0 or self.success_radius <= 0:
            raise ConfigError(
                f"PointMazeConfig: found damping={self.damping}, gain={self.gain}, success_radius="
                f"{self.success_radius}, expected damping in [0, 1] and the others positive"
            )
        if self.substeps < 1 or not 0 < self.max_speed <= self.radius * self.substeps:
            raise ConfigError(
                f"PointMazeConfig.max_speed: found {self.max_speed} in {self.substeps} substeps, expected a positive "
                f"speed of at most radius = {self.radius} cells per substep, or a ball could jump over a corner"
            )
        for name in ("floor", "wall", "ball"):
            colour: Colour = getattr(self, name)
            if len(colour) != 3 or not all(0 <= part <= 255 for part in colour):
                raise ConfigError(f"PointMazeConfig.{name}: found {colour}, expected three numbers in 0 .. 255")

    @property
    def cell_pixels(self) -> int:
        """Side of a cell in the picture, px; the border takes what is left, 2 px or more on each side."""
        return (self.image_size - 4) // self.cells

    @property
    def border_pixels(self) -> int:
        """Width of the border wall in the picture, px."""
        return (self.image_size - self.cells * self.cell_pixels) // 2
