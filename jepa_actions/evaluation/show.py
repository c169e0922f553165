"""Look at planning: episodes as GIFs of real frames, what the first plan imagines, and the energy landscape.

Nothing is decoded: an imagined latent is shown by the real frame whose latent is nearest.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from jepa_actions.envs.world import Split, World
from jepa_actions.errors import ConfigError
from jepa_actions.evaluation.control import Control, latent_agent, world_codec
from jepa_actions.evaluation.landscape import energy_landscape, plot_landscape
from jepa_actions.evaluation.offline import plan_once
from jepa_actions.evaluation.play import play
from jepa_actions.evaluation.protocol import PlanningProtocol, load_protocol
from jepa_actions.evaluation.tasks import Tasks, make_tasks, world_of_protocol
from jepa_actions.models import WorldModel
from jepa_actions.planning import decision_seed
from jepa_actions.training import OpenData, WorldDataset, whole_episodes

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE = 192  # px of a shown frame
FRAME_MS, LAST_MS = 140, 1200
MARGIN, CAPTION = 6, 14  # px
SOLVED, PLAIN = (58, 125, 68), (255, 255, 255)
LIBRARY_SEED = 4_000_037  # apart from the seeds of training behaviour and of tasks


@dataclass(frozen=True)
class Library:
    """Real frames of behaviour and their latents."""

    z: Float[Tensor, "m n*d"]
    frames: UInt8[Tensor, "m 3 h w"]

    def nearest(self, z: Float[Tensor, "*b n d"]) -> UInt8[Tensor, "*b 3 h w"]:
        """The frames whose latents are nearest."""
        found = torch.cdist(z.flatten(-2).flatten(0, -2).cpu(), self.z).argmin(1)
        frames: Tensor = self.frames[found].unflatten(0, z.shape[:-2])
        return frames


def show_planning(
    model: WorldModel,
    protocol: PlanningProtocol | str,
    control: Control | None,
    folder: str | Path,
    tasks: int = 4,
    *,
    episodes: int = 150,
) -> list[Path]:
    """Show the first tasks of a protocol (those of task seed 0), and write into `folder`:

    - `task0.gif` and so on: the real frames while the model plans, one per model step, beside the goal's picture, with
      a green frame from when the task counts as reached; under rule `ever` it stops there.
    - `imagined.png`: per task the first plan as the model imagines it, by nearest real frames, and below what the same
      actions do in the simulator.
    - `landscape.png`: the planner's cost over two action dimensions, see `energy_landscape`; where there are two.

    Arguments:
        episodes: of behaviour in the protocol's layouts; every model step of them may be shown as a nearest frame, and
            the landscape's pairs are from them.

    Returns: the files. Raises: ConfigError for fewer than one task, a model that does not fit the protocol's world, or
        a folder that cannot be written.
    """
    rules = load_protocol(protocol) if isinstance(protocol, str) else protocol
    if tasks < 1:
        raise ConfigError(f"show_planning: found {tasks} tasks, expected at least 1")
    target = Path(folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{target}: cannot be made: {error.strerror}") from error
    world = world_of_protocol(rules)
    world_codec(model, world)
    control = (control or Control()).resolved(model)
    some = make_tasks(rules, tasks, 0)
    files = [
        _save_gif(target / f"task{number}.gif", *pictures)
        for number, pictures in enumerate(_played(model, world, rules, control, some))
    ]
    data = _behaviour(model, world, rules, episodes)
    imagined, happened = first_plans(model, world, control, some, make_library(model, data), budget=rules.budget)
    goals = world.render(some.goal, some.layout)
    files.append(_save_strips(target / "imagined.png", imagined, happened, goals))
    if len(world.action_names) > 1:
        _, land = energy_landscape(model, data, control=control, limit=6, grid=25)
        files.append(plot_landscape(land, target / "landscape.png"))
    return files


@torch.no_grad()
def make_library(model: WorldModel, data: OpenData, *, batch: int = 256) -> Library:
    """Every model step of the held-out episodes as a frame and its latent."""
    assert model.codec is not None
    dataset, block = data.heldout_dataset, model.codec.block
    rows = np.array([(s.episode, frame) for s in data.heldout for frame in range(s.start, s.stop, block)])
    frames, latents = [], []
    for part in np.array_split(rows, max(1, len(rows) // batch)):
        images = dataset.read_clips(part[:, 0], part[:, 1:])["image"][:, 0]
        frames.append(images)
        latents.append(model.goal(images).z.flatten(1).cpu())
    return Library(torch.cat(latents), torch.cat(frames))


@torch.no_grad()
def first_plans(
    model: WorldModel, world: World, control: Control, tasks: Tasks, library: Library, *, budget: int
) -> tuple[UInt8[Tensor, "n h 3 y x"], UInt8[Tensor, "n h 3 y x"]]:
    """The plan of every task's first decision, with the start in front: imagined, by nearest real frames, and what the
    same actions do in the simulator, blindly."""
    codec = world_codec(model, world)
    start = world.render(tasks.start, tasks.layout)
    context, goal = model.encode(start[:, None]), model.goal(world.render(tasks.goal, tasks.layout))
    horizon = max(1, min(control.steps[0], budget // codec.block))
    # As the evaluation's own planner draws, so that this is the plan that is executed.
    seeds = [decision_seed(decision_seed(0, task), 0) for task in range(len(tasks))]
    plan = plan_once(model, context, goal, control, horizon=horizon, seeds=seeds)
    z = model.rollout(context, plan.actions[:, None]).z[:, 0]
    simulation, happened = world.start(tasks.start, tasks.layout), [start]
    for block in codec.decode(plan.actions).unbind(1):
        for action in block.unbind(1):
            states = simulation.step(action)
        happened.append(world.render(states, tasks.layout))
    return torch.cat([start[:, None], library.nearest(z)], dim=1), torch.stack(happened, dim=1)


def _behaviour(model: WorldModel, world: World, rules: PlanningProtocol, episodes: int) -> OpenData:
    """Behaviour in the protocol's layouts, that no training episode and no task is part of."""
    dataset = WorldDataset(
        world,
        world.behaviour(episodes, steps=rules.behaviour.steps, seed=LIBRARY_SEED, split=cast(Split, rules.layouts)),
    )
    whole = whole_episodes(dataset)
    return OpenData(dataset, whole, dataset, whole, model.codec)


def _played(
    model: WorldModel, world: World, rules: PlanningProtocol, control: Control, tasks: Tasks
) -> Iterator[tuple[list[Tensor], list[bool], Tensor]]:
    """Per task the frames that are shown, whether the goal has been reached at each, and the goal's picture."""
    codec = world_codec(model, world)
    goals = world.render(tasks.goal, tasks.layout)
    blocks = -(-rules.budget // codec.block)
    agent = latent_agent(control, model, codec, goals, seed=0, history=model.history, budget=blocks)
    score = play(tasks, agent, world, rules, watched=len(tasks))
    for task in range(len(tasks)):
        frames = [frame[task] for frame in score.frames]
        reached = [bool(solved) for solved in score.solved_by_decision[:, task]]
        if rules.rule == "ever" and any(reached):
            stop = reached.index(True) + 1
            frames, reached = frames[:stop], reached[:stop]
        yield frames, reached, goals[task]


def _save_gif(path: Path, frames: Sequence[Tensor], reached: Sequence[bool], goal: UInt8[Tensor, "3 h w"]) -> Path:
    pages = []
    for number, (frame, solved) in enumerate(zip(frames, reached, strict=True)):
        pages.append(_row([frame, goal], [f"step {number}", "goal"], [SOLVED if solved else PLAIN, PLAIN]))
    times = [FRAME_MS] * (len(pages) - 1) + [LAST_MS]
    _written(path, pages[0], save_all=True, append_images=pages[1:], duration=times, loop=0)
    return path


def _save_strips(
    path: Path,
    imagined: UInt8[Tensor, "n h 3 y x"],
    happened: UInt8[Tensor, "n h 3 y x"],
    goals: UInt8[Tensor, "n 3 y x"],
) -> Path:
    from PIL import Image

    strips = []
    for above, below, goal in zip(imagined, happened, goals, strict=True):
        steps = range(1, len(above))
        names = ["start", *(f"imagined {step}" for step in steps), "goal"]
        strips.append(_row([*above, goal], names, [PLAIN] * len(names)))
        names = ["start", *(f"happened {step}" for step in steps), "goal"]
        strips.append(_row([*below, goal], names, [PLAIN] * len(names)))
    page = Image.new("RGB", (strips[0].width, sum(strip.height for strip in strips)), PLAIN)
    top = 0
    for strip in strips:
        page.paste(strip, (0, top))
        top += strip.height
    _written(path, page)
    return path


def _row(frames: Sequence[Tensor], names: Sequence[str], colours: Sequence[tuple[int, int, int]]) -> "Image":
    """Frames side by side, enlarged without smoothing, each under its name and in a margin of its colour."""
    from PIL import Image, ImageDraw

    cell, tall = SIDE + 2 * MARGIN, SIDE + 2 * MARGIN + CAPTION
    page = Image.new("RGB", (cell * len(frames), tall), PLAIN)
    draw = ImageDraw.Draw(page)
    for place, (frame, name, colour) in enumerate(zip(frames, names, colours, strict=True)):
        draw.text((place * cell + MARGIN, 1), name, fill=(0, 0, 0))
        draw.rectangle((place * cell, CAPTION, (place + 1) * cell - 1, tall - 1), fill=colour)
        picture = Image.fromarray(frame.permute(1, 2, 0).cpu().numpy())
        big = picture.resize((SIDE, SIDE), Image.Resampling.NEAREST)
        page.paste(big, (place * cell + MARGIN, CAPTION + MARGIN))
    return page


def _written(path: Path, picture: "Image", **options: Any) -> None:
    try:
        picture.save(path, **options)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror or error}") from error
