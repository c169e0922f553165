"""Trouble of a run, named when it begins: latents that collapse, a loss that diverges, a device that waits for data.

What decides is scale-free, and was set so that no run of this library's own is accused (docs/watch.md).
"""

import statistics
from collections import deque
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["collapse", "divergence", "starvation"]
Row = dict[str, float]

MEMORY = 20  # logged rows that a running median looks back on
LOW_RANK, LOW_RANK_SHARE = 1.8, 0.1  # effective rank, and as a share of the first
FLAT, FLAT_SHARE = 0.015, 0.1  # spread between clips as a share of the latents' size, and of its first value
LOSS_RISE, LOSS_LOST = 1.5, 0.5  # above the median, in units of its size; and of what the loss had fallen by
NORM_RISE = 10.0  # times the median
STARVED = 0.3  # share of the time
PATIENCE = {"collapse": 2, "divergence": 1, "starvation": 2}  # rows in trouble before it is named
HEALED = 3  # rows without it before it can be named again

ADVICE = {
    "collapse": "try a term against collapse (objectives.sigreg or vicreg), a larger weight of it or of "
    "objectives.inverse, a slower target (train.ema nearer 1), or a lower train.lr",
    "divergence": "try a lower train.lr (jepa-actions train --lr_range suggests one), a longer train.warmup, or a "
    "smaller train.clip; a checkpoint before it: --resume RUN --resume_step N",
    "starvation": "try more data.workers, data.cache memory (or latents, with a frozen encoder), a local copy of the "
    "data, or videos with a key frame every ten frames",
}


@dataclass(frozen=True)
class Trouble:
    """What began, at which step, by which figures, and what to try."""

    step: int
    kind: Kind
    what: str
    advice: str

    def row(self) -> dict[str, str | int]:
        """For `events.jsonl`."""
        return {"step": self.step, "event": self.kind, "what": self.what, "try": self.advice}

    def __str__(self) -> str:
        return f"step {self.step}: {self.kind}: {self.what}; {self.advice}"


@dataclass
class _Episode:
    """Of one kind of trouble: rows in it, rows since, and whether it has been named."""

    bad: int = 0
    good: int = 0
    named: bool = False

    def begins(self, trouble: bool, patience: int) -> bool:
        """Whether this row is the one at which it is named."""
        if not trouble:
            self.bad, self.good = 0, self.good + 1
            self.named = self.named and self.good < HEALED
            return False
        self.bad, self.good = self.bad + 1, 0
        begins = self.bad >= patience and not self.named
        self.named = self.named or begins
        return begins


@dataclass
class Health:
    """Looks at each logged row; a run that was resumed shows it the rows before, so that nothing is named twice."""

    first: Row = field(default_factory=dict)  # what the first step measured, before anything was learned
    _losses: deque[float] = field(default_factory=lambda: deque(maxlen=MEMORY))
    _norms: deque[float] = field(default_factory=lambda: deque(maxlen=MEMORY))
    _terms: frozenset[str] = frozenset()
    _range: tuple[float, float] | None = None  # first and lowest loss with these terms
    _rows: int = 0
    _episodes: dict[str, _Episode] = field(default_factory=dict)

    def begin(self, first: Row) -> None:
        """Give what the very first step measured: loss, rank, spread."""
        self.first = dict(first)

    def new_process(self) -> None:
        """Rows come from another process from now on: its first one has the time of starting in it."""
        self._rows = 0

    def look(self, step: int, row: Row) -> list[Trouble]:
        """What begins at this row."""
        self._rows += 1
        self._new_terms(row)
        found: list[tuple[Kind, str | None]] = [
            ("collapse", self._collapse(row)),
            ("divergence", self._divergence(row)),
            ("starvation", self._starvation(row)),
        ]
        self._remember(row)
        begun = []
        for kind, what in found:
            episode = self._episodes.setdefault(kind, _Episode())
            if episode.begins(what is not None, PATIENCE[kind]) and what is not None:
                begun.append(Trouble(step, kind, what, ADVICE[kind]))
        return begun

    def _new_terms(self, row: Row) -> None:
        """A loss with other terms is another loss: it is compared with none before."""
        terms = frozenset(key for key in row if key.endswith("/total"))
        if terms != self._terms:
            self._terms, self._range = terms, None
            self._losses.clear()
            self._norms.clear()
            at_first = frozenset(key for key in self.first if key.endswith("/total"))
            if "loss" in self.first and terms == at_first and not self._rows > 1:
                self._losses.append(self.first["loss"])
                self._range = (self.first["loss"], self.first["loss"])

    def _collapse(self, row: Row) -> str | None:
        learned = self._terms - {"masked/total"}  # the masked term alone uses and shapes no z
        for where in ("z", "target") if learned else ("target",):
            rank, first = row.get(f"{where}/rank"), self.first.get(f"{where}/rank")
            if rank is not None and first is not None and _lost(rank, first):
                return f"the effective rank of {where} is {rank:.2f}, {first:.2f} at the first step"
            flat, first = row.get(f"{where}/clips"), self.first.get(f"{where}/clips")
            if flat is not None and first is not None and flat < min(FLAT, FLAT_SHARE * first):
                return (
                    f"{where} differs between clips by {flat:.2g} of its size, {first:.2g} at the first step: "
                    "it says where it looks, not what is there"
                )
        return None

    def _divergence(self, row: Row) -> str | None:
        loss, norm = row.get("loss"), row.get("grad_norm")
        if loss is not None and self._losses and self._range is not None:
            usual = statistics.median(self._losses)
            if loss > usual + max(LOSS_RISE * abs(usual), LOSS_LOST * (self._range[0] - self._range[1])):
                return f"the loss is {loss:.4g}, its running median {usual:.4g}"
        if norm is not None and len(self._norms) >= 3:
            usual = statistics.median(self._norms)
            if norm > NORM_RISE * usual:
                return f"the gradient's norm is {norm:.4g}, its running median {usual:.4g}"
        return None

    def _starvation(self, row: Row) -> str | None:
        starved = row.get("starved")
        if starved is None or self._rows == 1 or starved <= STARVED:
            return None
        return f"{starved:.0%} of the time went into waiting for data, {row['data_seconds']:.3g} s of each step"

    def _remember(self, row: Row) -> None:
        if "loss" in row:
            self._losses.append(row["loss"])
            first, lowest = self._range or (row["loss"], row["loss"])
            self._range = (first, min(lowest, row["loss"]))
        if "grad_norm" in row:
            self._norms.append(row["grad_norm"])


def _lost(rank: float, first: float) -> bool:
    """Whether most of the directions that there were at first are gone; data of one or two never had more."""
    return first > 1.5 * LOW_RANK and rank < max(LOW_RANK, LOW_RANK_SHARE * first)
