"""Cases that may hang or crash, asked of a process that is replaced when it does."""

from collections.abc import Callable
from multiprocessing import get_context
from typing import Any

LIMIT_S = 60  # an answer that takes longer is a hang


class Worker:
    """One process at a time.

    Args:
        serve: run in the process with a pipe and `given`: answers what it is sent until told `None`.
        given: the rest of its arguments.
    """

    def __init__(self, serve: Callable[..., None], *given: Any) -> None:
        self.serve, self.given = serve, given
        self.start()

    def start(self) -> None:
        """Begin a process."""
        context = get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=self.serve, args=(other, *self.given), daemon=True)
        self.process.start()
        other.close()

    def ask(self, task: object, row: Any, answers: int = 1) -> Any:
        """The last of so many rows that a task is answered with; a hang or a crash is a fault of the one before, at
        first of `row`."""
        try:
            self.pipe.send(task)
            for _ in range(answers):
                if not self.pipe.poll(LIMIT_S):
                    row.faults.append(f"hang: more than {LIMIT_S} s")
                    break
                row = self.pipe.recv()
            else:
                return row
        except EOFError:
            self.process.join()
            row.faults.append(f"crash: the process ended with {self.process.exitcode}")
        self.process.kill()
        self.process.join()
        self.start()
        return row

    def stop(self) -> None:
        """End the process."""
        self.pipe.send(None)
        self.process.join(LIMIT_S)
