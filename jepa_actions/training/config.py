"""A recipe as typed configuration: data, model, objectives, optimisation."""

from dataclasses import dataclass, field
from typing import Literal

from jepa_actions.data import Pose
from jepa_actions.envs.two_room_distractors import Distractors
from jepa_actions.errors import ConfigError
from jepa_actions.models import WorldModelConfig
from jepa_actions.objectives import (
    FeaturesLossConfig,
    ForwardConfig,
    GoalInverseLossConfig,
    InverseLossConfig,
    MaskedConfig,
    SigRegConfig,
    SubgoalLossConfig,
    TemporalDistanceConfig,
    TemporalSimilarityConfig,
    VicRegConfig,
)


@dataclass(frozen=True)
class EnvConfig:
    """Behaviour data made on the spot, where `data.path` is `env:two_room`."""

    episodes: int = 5000
    steps: int = 120  # actions per episode
    seed: int = 0
    episodes_per_layout: int = 5
    crossing_rate: float = 0.35  # two_room: share of episodes steered through the door
    accidental_crossings: bool = True  # two_room: whether the others may enter it
    push: float = 0.0  # two_room: probability of pushing on against a wall, every step anew
    distractors: Distractors | None = None  # two_room: what is drawn beside agent and walls, and in which colours
    heldout_episodes: int = 500  # on layouts that training never sees


@dataclass(frozen=True)
class SplitConfig:
    """Which frames are held out, from every stage of training."""

    kind: Literal["episode", "tail", "blocks", "folds", "none"] = "episode"
    fraction: float = 0.1  # episode: share of episodes; tail: last share of every episode; blocks: share of frames
    blocks: int = 5  # blocks: how many contiguous held-out blocks
    gap: int = 0  # tail, blocks: raw frames left out on each side of what is held out
    folds: int = 3  # folds: whole episodes, every folds-th held out
    fold: int = 0
    seed: int = 0


@dataclass(frozen=True)
class ActionConfig:
    """What a raw action is, how it is normalised, and where it may lie; see `ActionCodec` and docs/actions.md."""

    source: Literal["action", "proprio_difference", "action_minus_proprio"] = "action"
    column: str = "action"  # of a LeRobot data set, by name
    state: tuple[str, ...] = ("observation.state",)  # columns of proprio, side by side
    columns: tuple[int, ...] | None = None
    angles: tuple[int, ...] = ()  # dimensions, among the chosen columns, that are angles in radians
    rotation: Literal["additive", "composed"] = "additive"  # composed: the three angles change by a rotation
    poses: tuple[Pose, ...] = ()  # rotations in other forms, with their positions, in the frame of base or tool
    absolute: tuple[int, ...] = ()  # dimensions taken as they are, where the others are differences
    proprio_columns: tuple[int, ...] | None = None  # action_minus_proprio: what the actions are seen from
    lag: int = 0  # frames by which an action leads what is seen of it (eval/inverse.py --scan-lag)
    discrete: tuple[int, ...] = ()  # dimensions that are classes, 0 to k-1
    classes: tuple[int, ...] = ()  # how many each of them has; counted in the data where this is empty
    normalise: Literal["zscore", "quantile"] = "zscore"
    quantile_columns: tuple[int, ...] = ()  # those alone by quantiles, the others by z-score
    quantiles: tuple[float, float] = (0.01, 0.99)
    bounds: Literal["support", "quantiles"] = "support"
    ball: bool = False  # True bounds each raw action by its norm, False by a box
    pseudo: bool = False  # True counts inferred actions in the statistics, too

    def __post_init__(self) -> None:
        if self.classes and len(self.classes) != len(self.discrete):
            raise ConfigError(
                f"data.action.classes: {len(self.classes)} given, expected one for each of data.action.discrete "
                f"({len(self.discrete)})"
            )


@dataclass(frozen=True)
class LabelsConfig:
    """Which labels are used, for studies with few and for inferred ones."""

    episodes: int | None = None  # keep the labels of so many training episodes and hide the others'; null keeps all
    seed: int = 0  # of that draw
    fraction: float | None = None  # share of every batch whose clips have a known action; null: as they come
    pseudo: str | None = None  # column of inferred actions that fills in where the true one is unknown: pseudo_action


@dataclass(frozen=True)
class StreamConfig:
    """Reading from front to back with `datasets`, for data larger than the disk; see `ClipStream`."""

    split: str = "train"
    heldout: str | None = None  # a split whose first episodes are kept for evaluation
    heldout_episodes: int = 8
    fit_episodes: int = 64  # the first episodes with labels, which the action codec is fitted on
    shuffle: int = 16  # episodes held open, from all of which clips are drawn; 0 keeps the order
    fast_resume: bool = False  # True resumes without reading again what came before, and not exactly


@dataclass(frozen=True)
class DataConfig:
    """Where clips come from and what one looks like."""

    path: str  # a folder or a Hub id (LeRobot, videos, parquet, WebDataset), a .h5 file, or env:two_room
    revision: str | None = None  # branch, tag or commit of a Hub id
    disk_limit: float | None = None  # GB of a Hub data set's videos to keep on the disk; null keeps all
    also: tuple[str, ...] = ()  # more data sets of the same cameras, actions and frame rate
    video: tuple[str, ...] = ()  # more data sets whose video alone is used; for training only
    frames: int = 4  # frames per clip
    block: int = 1  # raw frames between two frames of a clip, and raw actions per model action
    stride: int = 1  # raw frames between the starts of two clips
    # So many clips of each scene side by side in a batch, for objectives that compare moments of one scene; 0: none.
    scene_clips: int = 0
    scenes: Literal["given", "episode", "one"] = "given"  # what the data set says; each episode's own; all show one
    pad: bool = False  # True also takes stretches that are too short for a clip: the last frame repeats, marked
    fps: float | None = None  # resample by time to this rate; null takes the frames as they were recorded
    resample: Literal["mean", "sum", "first", "last"] | None = None  # what becomes of the actions then
    labels: bool = True  # False trains on video alone, even where there are actions
    label: LabelsConfig = field(default_factory=LabelsConfig)
    skip_bad: bool = False  # True leaves out episodes that `jepa-actions data check` finds fatal, and counts them
    # memory: decode all frames once, as uint8; latents: encode each episode once, for a model with a frozen backbone
    cache: Literal["none", "memory", "latents"] = "none"
    latents: str | None = None  # with cache latents: a folder that keeps them in float16, for later runs too
    workers: int = 1  # threads that prepare batches
    stream: StreamConfig | None = None  # give `stream: {}` to read from front to back
    env: EnvConfig = field(default_factory=EnvConfig)
    split: SplitConfig = field(default_factory=SplitConfig)
    action: ActionConfig = field(default_factory=ActionConfig)


@dataclass(frozen=True)
class ObjectivesConfig:
    """The weighted list of loss terms; a term that is null is not part of the recipe."""

    masked: MaskedConfig | None = field(default_factory=MaskedConfig)
    forward: ForwardConfig | None = None
    inverse: InverseLossConfig | None = None
    sigreg: SigRegConfig | None = None
    vicreg: VicRegConfig | None = None
    temporal_similarity: TemporalSimilarityConfig | None = None
    distance: TemporalDistanceConfig | None = None
    goal_inverse: GoalInverseLossConfig | None = None
    subgoal: SubgoalLossConfig | None = None
    features: FeaturesLossConfig | None = None


@dataclass(frozen=True)
class OptimConfig:
    """Optimiser, schedule, EMA and bookkeeping."""

    steps: int = 2000
    batch_size: int = 32  # clips over all processes
    lr: float = 1e-3
    head_lr: float = 1.0  # lr of dynamics and inverse head, as a multiple of lr
    final_lr: float = 0.0  # share of lr at the end of the cosine
    warmup: float = 0.05  # share of the steps
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.95)
    clip: float = 1.0  # largest gradient norm
    ema: float = 0.99  # momentum of the target encoder at the start
    ema_final: float = 0.999  # and at the end, linear between
    log_every: int = 25
    checkpoint_every: int = 500  # 0 writes none
    keep_checkpoints: int = 2
    mixed_precision: Literal["no", "bf16"] = "no"
    dtype: Literal["float32", "float64"] = "float32"  # of weights and arithmetic; float64 to compare runs with
    accumulate: int = 1  # parts in which each process works through its clips before a step: less memory, more time
    shard: bool = False  # weights, gradients and optimiser state in parts over the processes (FSDP2)
    freeze_encoder: bool = False  # the encoder stays as `init` brought it, and keeps nothing for a gradient
    # With `freeze_encoder`, more that stays as `init` brought it: for heads trained on a finished world model.
    freeze: tuple[Literal["pooler", "predictor", "dynamics", "inverse", "distance"], ...] = ()
    gradient_checkpointing: bool = False  # compute each block again for its gradient: less memory, more time
    compile: bool = False  # torch.compile every transformer block; needs a C++ compiler, or triton on CUDA


@dataclass(frozen=True)
class TrainConfig:
    """One recipe."""

    data: DataConfig
    name: str = "run"
    out: str = "runs"  # the run's folder is out/name
    seed: int = 0
    model: WorldModelConfig = field(default_factory=WorldModelConfig)
    objectives: ObjectivesConfig = field(default_factory=ObjectivesConfig)
    train: OptimConfig = field(default_factory=OptimConfig)
    init: str | None = None  # weights to start from: a model folder or Hub id, or vjepa2: and V-JEPA 2's published ones
    init_parts: tuple[Literal["encoder", "predictor", "pooler"], ...] = ("encoder", "predictor", "pooler")  # of `init`
    tracker: Literal["tensorboard", "trackio", "wandb"] | None = None
    evaluate: tuple[str, ...] = ()  # evaluations run at the end, by name: planning, inverse, probe, rollout, masked
