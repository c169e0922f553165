"""Episodes that come twice, in one data set or in a training and a validation set."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from jepa_actions.data.problems import Problem
from jepa_actions.data.types import Episode

TELLING = 10  # rows of labels that two different episodes do not share by chance


@dataclass
class Digests:
    """What the episodes of a data set hold, by episode: digests of frames and of labels; `telling` are those labels
    that are long and varied enough to know an episode by."""

    frames: dict[int, str] = field(default_factory=dict)
    labels: dict[int, str] = field(default_factory=dict)
    telling: dict[int, str] = field(default_factory=dict)
    lengths: dict[int, int] = field(default_factory=dict)

    def add_labels(self, i: int, episode: Episode) -> None:
        """Note the labels of episode `i`."""
        parts = [values for values in (episode.actions, episode.proprio) if values is not None]
        whole = hashlib.blake2b(digest_size=16)
        for values in parts:
            whole.update(repr(values.shape).encode())
            whole.update(np.ascontiguousarray(values).tobytes())
        self.labels[i], self.lengths[i] = whole.hexdigest(), episode.length
        if any(len(values) >= TELLING and (values != values[0]).any() for values in parts):
            self.telling[i] = self.labels[i]


def repeated(found: Digests, file_of: Callable[[int], str]) -> list[Problem]:
    """Episodes that come twice. The same frames and labels: fatal for the later one, since a copy would sit on both
    sides of a split. The same frames with other labels, or the same labels with other frames: warnings."""
    problems = []
    first_frames, first_labels = dict[str, int](), dict[str, int]()
    for i, length in sorted(found.lengths.items()):
        shown = first_frames.setdefault(found.frames[i], i) if i in found.frames and length > 1 else i
        told = first_labels.setdefault(found.telling[i], i) if i in found.telling else i
        if shown != i and found.labels[shown] == found.labels[i]:
            message, fatal = f"episode {i}: frames and labels of episode {shown} again", True
        elif shown != i:
            message, fatal = f"episode {i}: the frames of episode {shown} with other labels", False
        elif told != i:
            message, fatal = f"episode {i}: the actions and states of episode {told} again, with other frames", False
        else:
            continue
        problems.append(Problem(i, file_of(i), "", message, fatal, "duplicate"))
    return problems


def shared(found: Digests, validation: Digests, name: str, file_of: Callable[[int], str]) -> list[Problem]:
    """Episodes of the validation set called `name` that the training set holds too, by their frames or by telling
    labels (a copy may be encoded anew): fatal."""
    frames = {digest: i for i, digest in found.frames.items()}
    labels = {digest: i for i, digest in found.telling.items()}
    problems = []
    for k in sorted(validation.lengths):
        for what, here, there in (("frames", frames, validation.frames), ("labels", labels, validation.telling)):
            if k in there and there[k] in here:
                i = here[there[k]]
                message = f"episode {i}: the {what} of episode {k} of the validation set {name}, expected in one only"
                problems.append(Problem(i, file_of(i), "", message, True, "split"))
                break
    return problems
