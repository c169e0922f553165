"""Recordings: episodes, clips, batches, action units, and the readers and writers of what recordings come in."""

from jepa_actions.data.bounds import ActionBounds, ModelBounds
from jepa_actions.data.checksums import seal, verify
from jepa_actions.data.codec import ActionCodec, wrap_angle
from jepa_actions.data.codec_read import missing
from jepa_actions.data.concat import Concat
from jepa_actions.data.decoded_cache import DecodedCache
from jepa_actions.data.folder import VideoFolder
from jepa_actions.data.frames_only import FramesOnly
from jepa_actions.data.hdf5 import Hdf5Dataset
from jepa_actions.data.index import ClipIndex, ClipSampler, MixedSampler
from jepa_actions.data.labels import WithLabels
from jepa_actions.data.latent_cache import LatentCache
from jepa_actions.data.latent_encode import encode_dataset
from jepa_actions.data.latent_store import LatentStore, open_latents
from jepa_actions.data.lerobot import LeRobot, LeRobotV3
from jepa_actions.data.lerobot_copy import copy_dataset
from jepa_actions.data.lerobot_writer import LeRobotWriter
from jepa_actions.data.loader import ClipLoader
from jepa_actions.data.memory import InMemory
from jepa_actions.data.open import load_dataset
from jepa_actions.data.pose import Pose
from jepa_actions.data.problems import Problem
from jepa_actions.data.recorder import record
from jepa_actions.data.resample import Resampled
from jepa_actions.data.splits import Split, split_blocks, split_by_episode, split_folds, split_tail
from jepa_actions.data.stream import ClipStream
from jepa_actions.data.stream_source import EpisodeStream
from jepa_actions.data.table import TableVideos
from jepa_actions.data.tars import TarVideos
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
    "LeRobotV3",
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
