"""What a person sees while a run trains: a bar on a terminal, a line per logged row elsewhere."""

import sys

from tqdm import tqdm


class Progress:
    """One line with loss terms, rank, clips/s, utilisation and time left.

    Args:
        name: of the run.
        start, end: the first step, and the one after the last.
        silent: say nothing, for every process but the first.
    """

    def __init__(self, name: str, start: int, end: int, *, silent: bool) -> None:
        self._name, self._step, self._end, self._silent = name, start, end, silent
        self._pace: float | None = None  # seconds per step, recent ones counting most
        terminal = sys.stdout.isatty() and not silent
        self._bar = (
            tqdm(
                total=end,
                initial=start,
                file=sys.stdout,
                desc=name,
                dynamic_ncols=True,
                bar_format="{desc} {n_fmt}/{total_fmt} {percentage:3.0f}%|{bar:10}| {postfix}",
            )
            if terminal
            else None
        )

    def stepped(self) -> None:
        """One step is done."""
        self._step += 1
        if self._bar is not None:
            self._bar.update()

    def show(self, row: dict[str, float]) -> None:
        """A logged row."""
        seconds = row["step_seconds"]
        self._pace = seconds if self._pace is None else 0.7 * self._pace + 0.3 * seconds
        left = duration(self._pace * (self._end - self._step))
        if self._bar is not None:
            self._bar.set_postfix_str(f"{summary(row)}, {left} left", refresh=True)
        elif not self._silent:
            print(f"{self._name} {self._step}/{self._end}: {summary(row)}, {left} left", flush=True)

    def say(self, text: str) -> None:
        """A line that stays, above the bar."""
        if self._bar is not None:
            self._bar.write(text, file=sys.stdout)
        elif not self._silent:
            print(text, flush=True)

    def close(self) -> None:
        """The run is over."""
        if self._bar is not None:
            self._bar.close()


def summary(row: dict[str, float]) -> str:
    """Loss, its terms, rank of z, clips/s and utilisation, as far as the row has them."""
    parts = [f"loss {row['loss']:.3g}"]
    terms = [f"{key.removesuffix('/total')} {row[key]:.3g}" for key in row if key.endswith("/total")]
    parts += [f"({', '.join(terms)})"] if terms else []
    words = [" ".join(parts)]
    if "z/rank" in row:
        words.append(f"rank {row['z/rank']:.3g}")
    words.append(f"{row['clips_per_second']:.3g} clips/s")
    if "mfu" in row:
        words.append(f"MFU {row['mfu']:.0%}")
    if row.get("starved", 0.0) > 0.05:
        words.append(f"{row['starved']:.0%} waiting for data")
    return ", ".join(words)


def duration(seconds: float) -> str:
    """Such as 45 s, 12 min, 3 h 05 min or 2 d 4 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes:02d} min"
    return f"{hours // 24} d {hours % 24} h"
