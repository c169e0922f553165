"""Memory of clips is used again, and never while somebody holds it."""

import gc
import threading

import torch

from jepa_actions.data.video import clip_memory
from jepa_actions.data.video.clip_memory import new_clips


def place(tensor):
    return tensor.untyped_storage().data_ptr()


def test_memory_is_used_again_when_nothing_holds_it():
    first = new_clips((2, 3), (5, 7))
    assert first.shape == (2, 3, 3, 5, 7)
    assert first.permute(0, 1, 3, 4, 2).is_contiguous()
    where = place(first)
    view = first[1, :, 0]
    del first
    gc.collect()
    other = new_clips((2, 3), (5, 7))
    assert place(other) != where, "a view holds it"
    array = view.numpy()
    del view
    assert place(new_clips((2, 3), (5, 7))) != where, "an array of a view holds it"
    del array
    gc.collect()
    kept = [new_clips((2, 3), (5, 7)) for _ in range(4)]
    assert where in [place(tensor) for tensor in kept]
    assert len({place(tensor) for tensor in [*kept, other]}) == 5


def test_what_lies_idle_is_bounded(monkeypatch):
    monkeypatch.setattr(clip_memory, "IDLE_BYTES", 4000)
    monkeypatch.setattr(clip_memory, "_idle", clip_memory._Idle())
    tensors = [new_clips((1, 1), (10, 10 + k)) for k in range(40)]
    del tensors
    gc.collect()
    new_clips((1, 1), (2, 2))
    assert 0 < sum(map(len, clip_memory._idle.blocks)) <= 4000


def test_threads_never_share_memory():
    wrong = []

    def work(value):
        for k in range(200):
            tensor = new_clips((1, 2), (8, 8 + k % 3))
            tensor.fill_(value)
            if not bool((tensor == value).all()):
                wrong.append(value)

    threads = [threading.Thread(target=work, args=(value,)) for value in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert new_clips((1, 2), (8, 8)).dtype == torch.uint8
