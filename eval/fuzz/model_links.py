"""Hostile links, pipes, devices and cards."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

from fuzz.model_base import Case, damaged, written

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def _linked(name: str, target: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return change


def _piped(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return change


def _folder(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return change


def _socket(folder: Path) -> None:
    (folder / "config.json").unlink()
    here = os.getcwd()
    os.chdir(folder)  # the name of a socket may have 108 bytes
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("config.json")
    os.chdir(here)


def _opened_through(target: str) -> Callable[[Path], Path]:
    """Opens a link beside the folder."""

    def change(folder: Path) -> Path:
        link = folder.with_name("link")
        link.symlink_to(target)
        return link

    return change


def snapshot(folder: Path, blobs: str = "blobs") -> Path:
    """The folder as the Hub's cache lays it out: links into `blobs` of its repository."""
    cache = folder.parent / "cache" / "models--someone--model"
    (cache / "snapshots" / COMMIT).mkdir(parents=True)
    (cache / "blobs").mkdir()
    held = cache / "snapshots" / COMMIT / ".." / ".." / blobs
    Path(os.path.normpath(held)).mkdir(parents=True, exist_ok=True)
    for i, path in enumerate(sorted(folder.iterdir())):
        blob = Path(os.path.normpath(held)) / f"{i:064x}"
        shutil.copy(path, blob)
        (cache / "snapshots" / COMMIT / path.name).symlink_to(os.path.join("..", "..", blobs, blob.name))
    return cache / "snapshots" / COMMIT


def links() -> list[Case]:
    """What is not the file that it is named."""
    both = ("config.json", "model.safetensors", "README.md")
    cases = [damaged("link", f"{name} out of the folder", _linked(name, f"../outside/{name}")) for name in both[:2]]
    targets = ("/etc/passwd", "/dev/zero", "/dev/urandom", "/proc/self/mem", "/proc/kcore", "nowhere", "")
    for name in both[:2]:
        for target in targets[:-1]:
            cases.append(damaged("link", f"{name} to {target}", _linked(name, target)))
        cases.append(damaged("link", f"{name} to itself", _linked(name, name)))
    cases += [
        damaged("link", "README.md to /etc/passwd", _linked("README.md", "/etc/passwd")),
        damaged("link", "README.md to /dev/zero", _linked("README.md", "/dev/zero")),
        *(damaged("pipe", name, _piped(name)) for name in (*both, "model.safetensors.index.json")),
        damaged("pipe", "config.json is a socket", _socket),
        *(damaged("link", f"{name} is a folder", _folder(name)) for name in both),
        *(damaged("link", f"the folder is a link to {t}", _opened_through(t)) for t in ("/", "/dev", "/proc/self/fd")),
        damaged("link", "the folder is a link to nowhere", _opened_through("nowhere")),
        damaged("link", "the folder is a link to itself", _opened_through("link")),
        damaged("link", "the folder is a link to a file", _opened_through("model/config.json")),
        damaged(
            "link", "a snapshot of another repository's blobs", lambda f: snapshot(f, "../models--other--model/blobs")
        ),
        damaged("link", "a snapshot of files outside the cache", lambda f: snapshot(f, "../../outside/blobs")),
    ]
    return cases


def cards() -> list[Case]:
    """Front matter that no reader of YAML should be given."""
    laughs = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(20)
    )
    fronts = {
        "a billion laughs": laughs,
        "an anchor that holds itself": "a: &a [*a]",
        "merged keys": "a: &a {x: 1}\nb: {<<: *a}",
        "an object of Python": "a: !!python/object/apply:os.system ['touch ../outside/executed']",
        "a tag of its own": "a: !evil [1]",
        "nested flow": "a: " + "[" * 5000 + "]" * 5000,
        "nested blocks": "\n".join("  " * i + "a:" for i in range(200)),
        "300 KB": "a: " + "x" * 300_000,
        "no YAML": "a: [1, 2\nb: }",
        "a control character": "a: \x07",
    }
    cases = [damaged("card", name, written("README.md", f"---\n{text}\n---\n# x\n")) for name, text in fronts.items()]
    cases += [
        damaged("card", "front matter without an end", written("README.md", "---\nlicense: mit\n" + "# x\n" * 100)),
        damaged("card", "not UTF-8", written("README.md", b"---\nlicense: \xff\xfe\n---\n")),
        damaged("card", "50 MB", lambda f: written("README.md", b"x" * 50_000_000)(f)),
    ]
    return cases
