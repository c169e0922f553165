"""Which columns of a LeRobot data set are an episode's labels, and where its actions come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32

from jepa_actions.data.lerobot.meta import Info, listed
from jepa_actions.data.types import Provenance
from jepa_actions.errors import DataError

ACTION, STATE, REWARD, SIMULATOR = "action", "observation.state", "next.reward", "simulator.state"
USUAL = (ACTION, STATE, REWARD)  # names that are asked for by default, whether or not the data set has them
INFERRED = {"pseudo_action": Provenance.PSEUDO, "latent_action": Provenance.LATENT}


@dataclass(frozen=True)
class ActionColumn:
    """A column of actions. `valid` is the column that says where they are known, `None` if there is none."""

    name: str
    dimensions: tuple[str, ...]
    valid: str | None
    provenance: Provenance
    labeller: str | None

    def read(self, rows: dict[str, np.ndarray]) -> tuple[Float32[np.ndarray, "t-1 a"], Bool[np.ndarray, "t-1"] | None]:
        """Actions of the steps between an episode's rows, and where they are known (`None`: everywhere). Inferred ones
        may be NaN where they are not."""
        values = rows[self.name][:-1]
        known = None if self.valid is None else rows[self.valid][:-1, 0] > 0.5
        if self.provenance != Provenance.TRUE:
            finite = np.isfinite(values).all(1)
            known = finite if known is None else known & finite
            values = np.where(known[:, None], values, np.float32(0))
        return values, known


class Labels:
    """The columns chosen by name. Raises DataError for one that does not exist, with those that do, and for pseudo
    actions in a column that other software takes for true ones."""

    def __init__(
        self,
        info: Info,
        *,
        action: str | None,
        pseudo: str | None,
        state: str | Sequence[str] | None,
        reward: str | None,
        simulator: bool = True,
    ) -> None:
        self._info = info
        states = (state,) if isinstance(state, str) else tuple(state or ())
        self.action = self._action(action)
        self.pseudo = self._pseudo(pseudo)
        self.states = tuple(column for column in map(self._known, states) if column is not None)
        self.reward = self._known(reward)
        self.simulator = SIMULATOR if simulator and SIMULATOR in info.features else None

    def _known(self, column: str | None) -> str | None:
        if column is None or column in self._info.columns:
            return column
        if column in USUAL and column not in self._info.features:
            return None
        found = listed(self._info.columns)
        raise DataError(f"{self._info.path}: column {column!r} asked for, expected one of {found}")

    def _action(self, asked: str | None) -> ActionColumn | None:
        column = self._known(asked)
        if column is None:
            return None
        named = next((kind for prefix, kind in INFERRED.items() if column.startswith(prefix)), Provenance.TRUE)
        noted, model = self._info.note(column, "provenance"), self._info.note(column, "model")
        kinds = {kind.name.lower(): kind for kind in Provenance}
        if noted is not None and noted not in list(kinds):
            raise DataError(f"{self._info.path}: feature {column!r} has provenance {noted!r}, expected {list(kinds)}")
        kind = named if noted is None else kinds[noted]
        if kind != named and (named != Provenance.TRUE or column.startswith(ACTION)):
            raise DataError(
                f"{self._info.path}: feature {column!r} has provenance {noted!r}, which its name denies; expected "
                f"inferred actions in a column such as pseudo_action or latent_action"
            )
        if kind != Provenance.TRUE and not isinstance(model, str):
            raise DataError(f"{self._info.path}: feature {column!r} has info.model {model!r}, expected who inferred it")
        valid = f"{column}_valid" if f"{column}_valid" in self._info.features else None
        return ActionColumn(column, self._names(column), valid, kind, None if kind == Provenance.TRUE else model)

    def _pseudo(self, asked: str | None) -> ActionColumn | None:
        column = self._action(asked)
        if column is None:
            return None
        if column.provenance != Provenance.PSEUDO:
            raise DataError(
                f"{self._info.path}: pseudo {asked!r} asked for, whose actions are {column.provenance.name.lower()}; "
                f"expected a column of pseudo actions"
            )
        true = self.action
        if true is not None and (true.provenance != Provenance.TRUE or len(true.dimensions) != len(column.dimensions)):
            raise DataError(
                f"{self._info.path}: pseudo actions {asked!r} of {len(column.dimensions)} dimensions cannot fill in "
                f"{true.name!r} of {len(true.dimensions)}, expected true actions of the same layout"
            )
        return column

    def _names(self, column: str) -> tuple[str, ...]:
        return self._info.names(column) or ()

    @property
    def hidden(self) -> bool:
        """Whether no label is read."""
        return not self.columns

    @property
    def action_names(self) -> tuple[str, ...] | None:
        """Of the action's dimensions; `None` where there is no action column."""
        column = self.action or self.pseudo
        return None if column is None else column.dimensions

    @property
    def proprio_names(self) -> tuple[str, ...] | None:
        """Of the state's dimensions, with their column in front where two columns have one name."""
        if not self.states:
            return None
        plain = [name for column in self.states for name in self._names(column)]
        if len(set(plain)) == len(plain) or len(self.states) == 1:
            return tuple(plain)
        return tuple(f"{column}.{name}" for column in self.states for name in self._names(column))

    @property
    def columns(self) -> dict[str, int]:
        """Every column to read, and its width."""
        valid = [column.valid for column in (self.action, self.pseudo) if column is not None]
        actions = [column.name for column in (self.action, self.pseudo) if column is not None]
        wanted = [*actions, *valid, *self.states, self.reward, self.simulator]
        return {column: len(self._names(column)) for column in wanted if column is not None}

    def cut(self, rows: dict[str, np.ndarray]) -> dict[str, Any]:
        """The fields of an Episode that an episode's rows give."""
        fields: dict[str, Any] = self._cut_actions(rows)
        if self.states:
            fields["proprio"] = np.concatenate([rows[column] for column in self.states], axis=1)
        if self.reward is not None:
            fields["rewards"] = rows[self.reward][:-1, 0]
        if self.simulator is not None:
            fields["simulator_state"] = rows[self.simulator]
        return fields

    def _cut_actions(self, rows: dict[str, np.ndarray]) -> dict[str, Any]:
        column = self.action or self.pseudo
        if column is None:
            return {}
        actions, known = column.read(rows)
        if self.pseudo is None or self.action is None or known is None:
            kind, labeller = column.provenance, column.labeller
            return {"actions": actions, "action_mask": known, "provenance": kind, "labeller": labeller}
        guessed, there = self.pseudo.read(rows)
        assert there is not None
        filled = there & ~known
        if not filled.any():
            return {"actions": actions, "action_mask": known}
        return {
            "actions": np.where(filled[:, None], guessed, actions),
            "action_mask": known | filled,
            "provenance": np.where(filled, int(Provenance.PSEUDO), int(Provenance.TRUE)).astype(np.int64),
            "labeller": self.pseudo.labeller,
        }
