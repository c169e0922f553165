"""The index of stored latents: whose they are, which episodes there are, and in which shard."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from jepa_actions.data.concat import Concat
from jepa_actions.data.labels import WithLabels
from jepa_actions.data.latents.shard import ShardLayout, Tokens, write_text
from jepa_actions.data.types import VideoDataset
from jepa_actions.data.view import combined
from jepa_actions.errors import DataError

FORMAT = "jepa_actions latents"
FORMAT_VERSION = 1
INDEX = "index.json"
SHOWN = 12  # hexadecimal digits of each part in a folder's name


@dataclass(frozen=True)
class LatentKey:
    """Whose latents: hashes of the encoder (form and weights), of the transform from decoded frames to its input and
    of what is kept of its output, and of the data set as it is opened."""

    encoder: str
    transform: str
    data: str

    def __post_init__(self) -> None:
        for name, part in asdict(self).items():
            if not re.fullmatch(f"[0-9a-f]{{{SHOWN},}}", part):
                raise DataError(f"latents: {name} key: expected a hash in hexadecimal digits, found {part!r}")

    @classmethod
    def of(cls, dataset: VideoDataset, encoder_key: str, transform_key: str) -> LatentKey:
        """The key of a data set's latents. Hidden labels do not matter: a data set and its `with_labels` share one."""
        sizes = {camera: dataset.image_size(camera) for camera in dataset.cameras}
        return cls(encoder_key, transform_key, combined(_frames_of(dataset), sizes))

    @property
    def folder(self) -> str:
        """Name of the cache's folder."""
        return "-".join(part[:SHOWN] for part in (self.encoder, self.transform, self.data))

    @property
    def text(self) -> str:
        """The three hashes in one line, as shards carry them."""
        return " ".join((self.encoder, self.transform, self.data))


@dataclass(frozen=True)
class Shard:
    """One file: its episodes lie in it one after another."""

    file: str
    sha256: str
    size: int  # bytes
    episodes: tuple[int, ...]
    lengths: tuple[int, ...]  # frames of each episode


@dataclass
class LatentIndex:
    """`index.json` of a cache's folder."""

    key: LatentKey
    dataset: str  # its name; for people
    tokens: Tokens
    chunk: int  # frames that share an origin, see `latent_shard`
    shards: list[Shard] = field(default_factory=list)

    def episodes(self) -> set[int]:
        """Those that are encoded."""
        return {episode for shard in self.shards for episode in shard.episodes}

    def layout(self, shard: Shard) -> ShardLayout:
        """What a shard's file must look like."""
        return ShardLayout(shard.lengths, self.tokens, self.chunk, self.key.text, shard.episodes[0])

    def write(self, folder: Path) -> None:
        """Replace the folder's index. Raises DataError where it cannot be written."""
        facts: dict[str, Any] = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "key": asdict(self.key),
            "dataset": self.dataset,
            "dtype": "float16",
            "chunk": self.chunk,
            "cameras": {camera: list(shape) for camera, shape in self.tokens.items()},
            "shards": [asdict(shard) for shard in self.shards],
        }
        write_text(folder / INDEX, json.dumps(facts | {"sha256": _digest(facts)}) + "\n")

    @classmethod
    def read(cls, folder: Path) -> LatentIndex:
        """The index of a folder.

        Raises:
            DataError: if there is none, it is damaged, or of another format or a newer version.
        """
        path = folder / INDEX
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise DataError(
                f"{path}: cannot be read ({error.strerror}); expected the index of stored latents"
            ) from error
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}: not valid JSON ({error}); {_ANEW}") from error
        if not isinstance(facts, dict) or facts.get("format") != FORMAT:
            raise DataError(f"{path}: expected format {FORMAT!r}; found another file")
        if facts.get("format_version") != FORMAT_VERSION:
            raise DataError(
                f"{path}: format_version {facts.get('format_version')!r}, this release reads {FORMAT_VERSION}"
            )
        if facts.pop("sha256", None) != _digest(facts):
            raise DataError(f"{path}: its contents do not have the sha256 that it states: it was damaged; {_ANEW}")
        try:
            return cls(
                key=LatentKey(**facts["key"]),
                dataset=facts["dataset"],
                tokens={camera: (n, width) for camera, (n, width) in facts["cameras"].items()},
                chunk=facts["chunk"],
                shards=[
                    Shard(Path(s["file"]).name, s["sha256"], s["size"], tuple(s["episodes"]), tuple(s["lengths"]))
                    for s in facts["shards"]
                ],
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{path}: a field is missing or wrong ({error}); {_ANEW}") from error


_ANEW = "delete this folder and encode again"


def _digest(facts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _frames_of(dataset: VideoDataset) -> str:
    """A fingerprint that does not depend on which labels are hidden."""
    if isinstance(dataset, WithLabels):
        return dataset.source
    if isinstance(dataset, Concat):
        return combined([_frames_of(part) for part in dataset.parts])
    return dataset.fingerprint()
