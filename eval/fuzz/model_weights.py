"""Hostile weights: headers that do not hold together, tensors that are not numbers, pickles, and shards elsewhere."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle  # written, to be refused; never read
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from fuzz.model_base import Case, damaged, edited, holes, with_tensors, written
from safetensors.torch import load_file, save_file

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLES = ("pytorch_model.bin", "model.pt", "model.ckpt", "model.pkl")
NAME = "encoder.norm.weight"


class Evil:
    """Unpickling it leaves a trace beside the model folders."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.trace}'",)


def split(path: Path) -> tuple[dict[str, Any], bytes]:
    """Header and payload of a valid file."""
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def joined(header: dict[str, Any] | bytes, payload: bytes) -> bytes:
    """A file of both, whatever they say."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + payload


def in_header(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """A change of the header alone."""

    def changed(folder: Path) -> None:
        header, payload = split(folder / WEIGHTS)
        found = change(header)
        (folder / WEIGHTS).write_bytes(joined(header if found is None else found, payload))

    return changed


def _set(field: str, value: Any) -> Callable[[Path], None]:
    return in_header(lambda header: header[NAME].update({field: value}))


def _moved(by: int) -> Callable[[Path], None]:
    def change(header: dict[str, Any]) -> None:
        header[NAME]["data_offsets"] = [n + by for n in header[NAME]["data_offsets"]]

    return in_header(change)


def _twice(header: dict[str, Any]) -> bytes:
    text = json.dumps(header)
    return (text[:-1] + f', "{NAME}": ' + json.dumps(header[NAME]) + "}").encode()


def headers() -> list[Case]:
    """Headers that are too large, no JSON, or do not hold together."""
    length = {
        "a header of 2^63 bytes": struct.pack("<Q", 1 << 63) + b"{}",
        "a header of 2^64 - 1 bytes": b"\xff" * 8 + b"{}",
        "a header of 100 GB": struct.pack("<Q", 100 << 30) + b"{}",
        "a header of 1 GB": struct.pack("<Q", 1 << 30) + b"{" + b" " * 1000,
        "a header of 0 bytes": bytes(8),
        "empty": b"",
        "4 bytes": b"\x04\x00\x00\x00",
        "zeros": bytes(1 << 20),
        "an HTML page": b"<!DOCTYPE html><html>Too many requests</html>",
        "a pointer of git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:"
        + b"0" * 64
        + b"\nsize 108784\n",
    }
    cases = [damaged("header", name, written(WEIGHTS, data)) for name, data in length.items()]
    real = "header of 100 MB"
    cases += [
        damaged(
            "header", f"{real} of spaces", lambda f: written(WEIGHTS, joined(b"{" + b" " * 100_000_000 + b"}", b""))(f)
        ),
        damaged(
            "header",
            f"{real} of holes",
            lambda f: holes(f / WEIGHTS, 100_000_100, struct.pack("<Q", 100_000_000) + b"{"),
        ),
        damaged("header", "a list", in_header(lambda h: b"[]")),
        damaged("header", "no JSON", in_header(lambda h: b"{'a': 1}")),
        damaged("header", "not UTF-8", in_header(lambda h: b'{"\xff": 1}')),
        damaged("header", "NaN in a shape", in_header(lambda h: json.dumps(h).replace("[24]", "[NaN]", 1).encode())),
        damaged(
            "header",
            "100,000 lists in one another",
            in_header(lambda h: b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
        ),
        damaged("header", "a tensor stands there twice", in_header(_twice)),
        damaged(
            "header",
            "a hundred thousand tensors of nothing",
            in_header(
                lambda h: {f"t{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(60_000)}
            ),
        ),
        damaged("header", "an entry is a number", in_header(lambda h: h.update({NAME: 1}))),
        damaged("header", "an entry has another key", _set("code", "import os")),
        damaged("header", "notes are not text", in_header(lambda h: h.update({"__metadata__": {"a": {"b": 1}}}))),
        damaged("header", "notes are a list", in_header(lambda h: h.update({"__metadata__": [1]}))),
        damaged("offsets", "overlap", _moved(-4)),
        damaged("offsets", "a gap", _moved(4)),
        damaged("offsets", "out of the file", _moved(10**9)),
        damaged("offsets", "of 2^62", _moved(1 << 62)),
        damaged("offsets", "negative", _set("data_offsets", [-96, 0])),
        damaged("offsets", "reversed", _set("data_offsets", [96, 0])),
        damaged("offsets", "not whole", _set("data_offsets", [0.0, 96.0])),
        damaged("offsets", "three of them", _set("data_offsets", [0, 48, 96])),
        damaged("offsets", "text", _set("data_offsets", "0:96")),
        damaged("shape", "of 2^40 x 2^40", _set("shape", [1 << 40, 1 << 40])),
        damaged("shape", "whose product overflows to its size", _set("shape", [24, (1 << 61) + 1])),
        damaged("shape", "negative", _set("shape", [-24])),
        damaged("shape", "of 100,000 dimensions", _set("shape", [1] * 100_000)),
        damaged("shape", "of 65 dimensions", _set("shape", [1] * 64 + [24])),
        damaged("shape", "text", _set("shape", "24")),
        damaged("shape", "true", _set("shape", [True])),
        damaged("dtype", "unknown", _set("dtype", "F13")),
        damaged("dtype", "a list", _set("dtype", ["F32"])),
        damaged("dtype", "an object of Python", _set("dtype", "O")),
        damaged("dtype", "integers of the same size", _set("dtype", "I32")),
        damaged("dtype", "half, with half the bytes", _set("dtype", "F16")),
    ]
    return cases


def tensors() -> list[Case]:
    """Valid files whose tensors are not the model's, or no numbers."""

    def at(name: str, value: float) -> Callable[[dict[str, torch.Tensor]], None]:
        return lambda t: t[name].view(-1).__setitem__(-1, value)

    def cast(dtype: torch.dtype) -> Callable[[dict[str, torch.Tensor]], None]:
        return lambda t: t.update({NAME: t[NAME].to(dtype)})

    changes: dict[str, Callable[[dict[str, torch.Tensor]], Any]] = {
        "NaN in one weight": at(NAME, float("nan")),
        "inf in one weight": at("dynamics.out.weight", float("inf")),
        "-inf in one weight": at("inverse.trunk.out.bias", float("-inf")),
        "NaN everywhere": lambda t: [x.fill_(float("nan")) for x in t.values() if x.is_floating_point()],
        "double precision": cast(torch.float64),
        "half precision": cast(torch.float16),
        "bfloat16": cast(torch.bfloat16),
        "whole numbers": cast(torch.int64),
        "booleans": cast(torch.bool),
        "all in double precision": lambda t: t.update({k: v.double() for k, v in t.items()}),
        "another shape": lambda t: t.update({NAME: torch.ones(25)}),
        "of no dimension": lambda t: t.update({NAME: torch.tensor(1.0)}),
        "empty": lambda t: t.update({NAME: torch.ones(0)}),
        "one missing": lambda t: t.pop(NAME),
        "none": lambda t: t.clear(),
        "one more": lambda t: t.update({"decoder.weight": torch.ones(2)}),
        "a name with a path": lambda t: t.update({"../../outside/x": t.pop(NAME)}),
        "a name of a thousand characters": lambda t: t.update({"x" * 1000: t.pop(NAME)}),
        "of another model": lambda t: (t.clear(), t.update({"bert.embeddings.weight": torch.ones(8, 8)})),
        "12,000 of them": lambda t: t.update({f"x{i}": torch.ones(1) for i in range(12_000)}),
    }
    return [damaged("tensors", name, with_tensors(change)) for name, change in changes.items()]


def files() -> list[Case]:
    """Files that are cut, longer, or something else by the name of weights."""

    def cut(size: int) -> Callable[[Path], None]:
        def change(folder: Path) -> None:
            (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:size])

        return change

    def pickled(name: str, protocol: int) -> Callable[[Path], None]:
        def change(folder: Path) -> None:
            (folder / WEIGHTS).unlink()
            (folder / name).write_bytes(pickle.dumps(Evil(folder.parent / "outside" / "executed"), protocol))

        return change

    def zipped(name: str) -> Callable[[Path], None]:
        def change(folder: Path) -> None:
            (folder / WEIGHTS).unlink()
            torch.save({"model": Evil(folder.parent / "outside" / "executed")}, folder / name)

        return change

    def compressed(folder: Path) -> None:
        (folder / WEIGHTS).write_bytes(gzip.compress((folder / WEIGHTS).read_bytes()))

    def numpy(folder: Path) -> None:
        import numpy as np

        held = io.BytesIO()
        np.save(held, np.array([Evil(folder.parent / "outside" / "executed")], dtype=object), allow_pickle=True)
        (folder / WEIGHTS).write_bytes(held.getvalue())

    def sparse(width: int) -> Callable[[Path], None]:
        """Weights of a giant model, all of them holes, and a configuration of that model."""

        def change(folder: Path) -> None:
            edited("model", "features", value={"width": 24, "rank": width})(folder)
            header, payload = split(folder / WEIGHTS)
            end = len(payload)
            shapes = {
                "fc_in.weight": [24, 16], "fc_in.bias": [24], "fc.weight": [24, 24], "fc.bias": [24],
                "norms.0.weight": [24], "norms.0.bias": [24], "norms.1.weight": [24], "norms.1.bias": [24],
                "patches.weight": [16 * width, 24], "patches.bias": [16 * width], "out.weight": [24, width],
                "out.bias": [24], "mean": [16, 24], "var": [24], "seen": [],
            }  # fmt: skip
            for name, shape in shapes.items():
                size = 4
                for n in shape:
                    size *= n
                entry = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + size]}
                header[f"features.{name}"], end = entry, end + size
            data = joined(header, payload)
            holes(folder / WEIGHTS, len(data) - len(payload) + end, data)

        return change

    cases = [damaged("file", f"cut to {size} bytes", cut(size)) for size in (7, 8, 100, 20_000, 108_000, -1)]
    cases += [
        damaged("file", "longer", lambda f: written(WEIGHTS, (f / WEIGHTS).read_bytes() + bytes(1 << 20))(f)),
        damaged("file", "compressed", compressed),
        damaged("file", "an array of objects of numpy", numpy),
        damaged("file", "100 GB of holes, and a configuration for them", sparse(60_000_000)),
        damaged("file", "2 GB of holes, and a configuration for them", sparse(1_200_000)),
        *(damaged("pickle", f"{WEIGHTS} of protocol {p}", pickled(WEIGHTS, p)) for p in (0, 2, 4)),
        damaged("pickle", f"{WEIGHTS} by torch.save", zipped(WEIGHTS)),
        *(damaged("pickle", f"{n} alone", pickled(n, 2)) for n in PICKLES),
        damaged("pickle", "pytorch_model.bin by torch.save", zipped("pytorch_model.bin")),
    ]  # fmt: skip
    return cases


def shards() -> list[Case]:
    """Indices that place tensors elsewhere, or shards that do not agree with theirs."""

    def index(change: Callable[[dict[str, str], Path], Any]) -> Callable[[Path], None]:
        def changed(folder: Path) -> None:
            tensors = load_file(folder / WEIGHTS)
            tensors = {name: tensor.clone() for name, tensor in tensors.items()}
            (folder / WEIGHTS).unlink()
            names = sorted(tensors)
            files = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
            places = {name: files[i >= len(names) // 2] for i, name in enumerate(names)}
            for file in files:
                save_file({name: tensors[name] for name in names if places[name] == file}, folder / file)
            found = change(places, folder)
            content = {"metadata": {}, "weight_map": places} if found is None else found
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            (folder / INDEX).write_bytes(data)

        return changed

    def placed(file: Any) -> Callable[[dict[str, str], Path], None]:
        return lambda places, folder: places.update({NAME: file})

    outside = "../outside/model.safetensors"
    first, second = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    elsewhere: dict[str, Any] = {
        "a path out of the folder": outside,
        "a long path out of the folder": "../" * 40 + "etc/passwd",
        "an absolute path": "/etc/passwd",
        "a device": "/dev/zero",
        "a path of Windows": "..\\..\\outside\\model.safetensors",
        "an address": "https://example.com/model-00001-of-00002.safetensors",
        "a subfolder": "sub/model-00001-of-00002.safetensors",
        "a NUL": "model-00001-of-00002.safetensors\0.bin",
        "nothing": "",
        "the configuration": "config.json",
        "a pickle": "pytorch_model.bin",
        "a number": 1,
        "a list": [first],
        "a hundred thousand characters": "x" * 100_000 + ".safetensors",
        "another shard": first,  # the tensor is in the second
        "a shard that is not there": "model-00003-of-00002.safetensors",
    }
    name_in_second = max  # names are sorted: the last one is in the second shard
    cases = [
        damaged("index", f"places a tensor at {what}", index(placed(file)))
        if what != "another shard"
        else damaged("index", f"places a tensor at {what}", index(lambda p, f: p.update({name_in_second(p): first})))
        for what, file in elsewhere.items()
    ]
    cases += [
        damaged("index", "is empty", index(lambda p, f: {"weight_map": {}})),
        damaged("index", "has no weight_map", index(lambda p, f: {"metadata": {}})),
        damaged("index", "has a list", index(lambda p, f: {"weight_map": list(p)})),
        damaged("index", "is no JSON", index(lambda p, f: b"{")),
        damaged("index", "is 100 MB", index(lambda p, f: b" " * 100_000_000)),
        damaged("index", "is nested", index(lambda p, f: b"[" * 100_000 + b"]" * 100_000)),
        damaged("index", "names 60,000 tensors", index(
            lambda p, f: {"weight_map": {f"t{i}": first for i in range(60_000)}})),
        damaged("index", "a name stands there twice", index(
            lambda p, f: (json.dumps({"weight_map": p})[:-2] + f', "{NAME}": "{first}"}}}}').encode())),
        damaged("index", "a tensor more than the shards", index(lambda p, f: p.update({"x": first}))),
        damaged("index", "a tensor fewer than the shards", index(lambda p, f: p.pop(NAME) and None)),
        damaged("index", "a shard is missing", index(lambda p, f: (f / second).unlink())),
        damaged("index", "a shard is cut", index(
            lambda p, f: written(second, (f / second).read_bytes()[:999])(f))),
        damaged("index", "shards exchanged", index(lambda p, f: _exchange(f / first, f / second))),
        damaged("index", "a shard is a link out of the folder", index(lambda p, f: _link_out(f, second))),
        damaged("index", "stands beside one file", written(INDEX, json.dumps({"weight_map": {NAME: first}}))),
    ]  # fmt: skip
    return cases


def _exchange(one: Path, two: Path) -> None:
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)


def _link_out(folder: Path, name: str) -> None:
    (folder / name).rename(folder.parent / "outside" / name)
    (folder / name).symlink_to(folder.parent / "outside" / name)
