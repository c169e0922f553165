"""Recordings: episodes, clips, batches, action units, and the readers of LeRobot data sets and folders of videos."""

from jepa_actions.data.bounds import ActionBounds
from jepa_actions.data.codec import ActionCodec, ModelBounds, wrap_angle
from jepa_actions.data.codec_read import missing
from jepa_actions.data.concat import Concat
from jepa_actions.data.folder import VideoFolder
from jepa_actions.data.frames_only import FramesOnly
from jepa_actions.data.index import ClipIndex, ClipSampler, MixedSampler
from jepa_actions.data.labels import WithLabels
from jepa_actions.data.latent_cache import LatentCache
from jepa_actions.data.lerobot import LeRobotV3
from jepa_actions.data.loader import ClipLoader
from jepa_actions.data.memory import InMemory
from jepa_actions.data.open import load_dataset
from jepa_actions.data.pose import Pose
from jepa_actions.data.splits import Split, split_blocks, split_by_episode, split_folds, split_tail
from jepa_actions.data.types import Batch, Episode, Provenance, Segment, VideoDataset
from jepa_actions.data.video import VideoFile
from jepa_actions.data.view import DatasetView, Subset, Viewable, combined

__all__ = [
    "ActionBounds",
    "ActionCodec",
    "Batch",
    "ClipIndex",
    "ClipLoader",
    "ClipSampler",
    "Concat",
    "DatasetView",
    "Episode",
    "FramesOnly",
    "InMemory",
    "LatentCache",
    "LeRobotV3",
    "MixedSampler",
    "ModelBounds",
    "Pose",
    "Provenance",
    "Segment",
    "Split",
    "Subset",
    "VideoDataset",
    "VideoFile",
    "VideoFolder",
    "Viewable",
    "WithLabels",
    "combined",
    "load_dataset",
    "missing",
    "split_blocks",
    "split_by_episode",
    "split_folds",
    "split_tail",
    "wrap_angle",
]
