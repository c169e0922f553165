"""Recordings: episodes, clips, batches, action units, and the readers and writers of what recordings come in."""

from jepa_actions.data.actions.bounds import ActionBounds, ModelBounds
from jepa_actions.data.actions.codec import ActionCodec, wrap_angle
from jepa_actions.data.actions.pose import Pose
from jepa_actions.data.actions.read import missing
from jepa_actions.data.concat import Concat
from jepa_actions.data.decoded.cache import DecodedCache
from jepa_actions.data.frames_only import FramesOnly
from jepa_actions.data.index import ClipIndex, ClipSampler, MixedSampler
from jepa_actions.data.labels import WithLabels
from jepa_actions.data.latents.cache import LatentCache
from jepa_actions.data.latents.encode import encode_dataset
from jepa_actions.data.latents.store import LatentStore, open_latents
from jepa_actions.data.lerobot.checksums import seal, verify
from jepa_actions.data.lerobot.copying import copy_dataset
from jepa_actions.data.lerobot.reader import LeRobot
from jepa_actions.data.lerobot.writer import LeRobotWriter
from jepa_actions.data.loader import ClipLoader
from jepa_actions.data.memory import InMemory
from jepa_actions.data.open import load_dataset
from jepa_actions.data.problems import Problem
from jepa_actions.data.recorder.record import record
from jepa_actions.data.resample import Resampled
from jepa_actions.data.sources.folder import VideoFolder
from jepa_actions.data.sources.hdf5 import Hdf5Dataset
from jepa_actions.data.sources.stream import ClipStream
from jepa_actions.data.sources.stream_source import EpisodeStream
from jepa_actions.data.sources.table import TableVideos
from jepa_actions.data.sources.tars import TarVideos
from jepa_actions.data.splits import Split, split_blocks, split_by_episode, split_folds, split_tail
from jepa_actions.data.types import Batch, Episode, Provenance, Segment, VideoDataset
from jepa_actions.data.video.file import VideoFile
from jepa_actions.data.view import DatasetView, Subset, Viewable, combined

__all__ = [
    "ActionBounds",
    "ActionCodec",
    "Batch",
    "ClipIndex",
    "ClipLoader",
    "ClipSampler",
    "ClipStream",
    "Concat",
    "DatasetView",
    "DecodedCache",
    "Episode",
    "EpisodeStream",
    "FramesOnly",
    "Hdf5Dataset",
    "InMemory",
    "LatentCache",
    "LatentStore",
    "LeRobot",
    "LeRobotWriter",
    "MixedSampler",
    "ModelBounds",
    "Pose",
    "Problem",
    "Provenance",
    "Resampled",
    "Segment",
    "Split",
    "Subset",
    "TableVideos",
    "TarVideos",
    "VideoDataset",
    "VideoFile",
    "VideoFolder",
    "Viewable",
    "WithLabels",
    "combined",
    "copy_dataset",
    "encode_dataset",
    "load_dataset",
    "missing",
    "open_latents",
    "record",
    "seal",
    "split_blocks",
    "split_by_episode",
    "split_folds",
    "split_tail",
    "verify",
    "wrap_angle",
]
