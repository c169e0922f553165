"""The most recently used of many things, up to a limit; safe to use from several threads, empty in a copy sent to
another process."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


def one(_: Any) -> int:
    """Counts things instead of weighing them."""
    return 1


class Recent(Generic[K, V]):
    """At most `limit` worth of values, each as heavy as `weigh` says; the latest stays however heavy it is."""

    def __init__(self, limit: int, weigh: Callable[[V], int] = one) -> None:
        self.limit, self.weigh = limit, weigh
        self._kept: OrderedDict[K, V] = OrderedDict()
        self._weight = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: K, make: Callable[[], V]) -> V:
        """The value of `key`, made where it is not kept; two threads may make one at once, and one of them is kept."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        value = make()
        with self._lock:
            if key not in self._kept:
                self._kept[key] = value
                self._weight += self.weigh(value)
            while self._weight > self.limit and len(self._kept) > 1:
                _, old = self._kept.popitem(last=False)
                self._weight -= self.weigh(old)
            return self._kept.get(key, value)

    def drop(self, key: K) -> None:
        """Forget a value, if it is kept."""
        with self._lock:
            if key in self._kept:
                self._weight -= self.weigh(self._kept.pop(key))

    def __getstate__(self) -> dict[str, Any]:
        return {"limit": self.limit, "weigh": self.weigh}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["limit"], state["weigh"])  # type: ignore[misc]
