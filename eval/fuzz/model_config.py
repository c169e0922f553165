"""Hostile configurations: JSON that is none, bombs, fields of the wrong kind, and sizes of which no weights are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fuzz.model_base import Case, config_of, damaged, edited, holes, written

GIANT = 10**9


def _in_text(old: str, new: str) -> Any:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        text = path.read_text()
        assert old in text, old
        path.write_text(text.replace(old, new, 1))

    return change


def _removed(*keys: str) -> Any:
    def change(folder: Path) -> None:
        config = config_of(folder)
        inner = config
        for key in keys[:-1]:
            inner = inner[key]
        del inner[keys[-1]]
        (folder / "config.json").write_text(json.dumps(config))

    return change


def _several(*changes: Any) -> Any:
    def change(folder: Path) -> None:
        for one in changes:
            one(folder)

    return change


def texts() -> list[Case]:
    """What is not the JSON it should be."""
    raw: dict[str, bytes | str] = {
        "empty": b"",
        "half an object": "{",
        "a list": "[1]",
        "null": "null",
        "a string": '"jepa_actions"',
        "single quotes": "{'library': 'jepa_actions'}",
        "UTF-16": '{"library": "jepa_actions"}'.encode("utf-16"),
        "not UTF-8": b'{"library": "jepa\xff\xfe"}',
        "NUL bytes": bytes(4096),
        "HTML": "<!DOCTYPE html><html><body>504 Gateway Timeout</body></html>",
        "100,000 lists in one another": "[" * 100_000 + "]" * 100_000,
        "100,000 objects in one another": '{"a":' * 100_000 + "1" + "}" * 100_000,
        "100,000 lists never closed": "[" * 100_000,
        "a number of 5000 digits": '{"library": "jepa_actions", "format_version": ' + "9" * 5000 + "}",
        "a number of a million digits": '{"library": "jepa_actions", "format_version": ' + "9" * 1_000_000 + "}",
        "20 MB of zeros in a list": "[" + "0," * 10_000_000 + "0]",
        "300,000 unknown fields": json.dumps({"library": "jepa_actions"} | {f"k{i}": 0 for i in range(300_000)}),
        "4 MB of empty lists": "[" + "[]," * 1_390_000 + "[]]",
        "a string of 3.9 MB as library": json.dumps({"library": "x" * 3_900_000}),
        "a pickle": b"\x80\x04\x95\x1d\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.",
    }
    cases = [damaged("json", name, written("config.json", data)) for name, data in raw.items()]
    cases.append(damaged("json", "200 MB of spaces", lambda f: written("config.json", b" " * 200_000_000)(f)))
    cases.append(
        damaged("json", "200 MB string", lambda f: written("config.json", b'"' + b"a" * 200_000_000 + b'"')(f))
    )
    cases.append(damaged("json", "100 GB of holes", lambda f: holes(f / "config.json", 100 << 30, b"{")))
    for name, old, new in (
        ("NaN in codec statistics", "0.5,", "NaN,"),
        ("Infinity in codec statistics", "0.5,", "Infinity,"),
        ("-Infinity in bounds", "-3.0,", "-Infinity,"),
        ("1e999 in codec statistics", "0.5,", "1e999,"),
        ("library stands there twice", '"library"', '"library": "x", "library"'),
        ("a field of the model stands there twice", '"cameras"', '"cameras": [], "cameras"'),
        ("half a surrogate pair in a name", '"image"\n', '"\\ud800"\n'),
        ("something after the end", '"golden": true', '"golden": true} ,{"a": 1'),
    ):
        cases.append(damaged("json", name, _in_text(old, new)))
    return cases


def fields() -> list[Case]:
    """Fields of the wrong kind, or that do not fit each other."""
    wrong: list[tuple[tuple[str | int, ...], Any]] = [
        (("library",), "transformers"),
        (("library",), None),
        (("library",), ["jepa_actions"]),
        (("format_version",), 7),
        (("format_version",), 0),
        (("format_version",), -1),
        (("format_version",), True),
        (("format_version",), "6"),
        (("format_version",), 1.5),
        (("format_version",), 10**300),
        (("format_version",), 1),  # with the fields of 6
        (("golden",), "yes"),
        (("extra",), []),
        (("notes",), "x"),
        (("model",), None),
        (("model",), []),
        (("model", "encoder"), "large"),
        (("model", "cameras"), []),
        (("model", "cameras"), ["a", "a"]),
        (("model", "cameras"), [f"c{i}" for i in range(100_000)]),
        (("model", "image", "std"), [0.0, 1.0, 1.0]),
        (("model", "image", "std"), [-1.0, 1.0, 1.0]),
        (("model", "image", "mean"), [0.0, 0.0]),
        (("model", "x" * 3_000_000), 1),
        (("model", "attention"), "os.system"),
        (("model", "rollout", "compile"), "yes"),
        (("model", "encoder", "heads"), 0),
        (("model", "dynamics", "kind"), "__import__('os')"),
        (("codec",), []),
        (("codec",), "pickle"),
        (("codec", "mean"), [1e39, 0.0]),
        (("codec", "std"), [0.0, 1.0]),
        (("codec", "std"), [-1.0, 1.0]),
        (("codec", "std"), [1e-300, 1.0]),
        (("codec", "mean"), [[0.5, 0.5]]),
        (("codec", "mean"), ["a", "b"]),
        (("codec", "bounds"), [1, 2]),
        (("codec", "bounds"), {"kind": "box", "low": ["a", "a"], "high": ["b", "b"]}),
        (("codec", "bounds"), {"kind": "box", "low": [1.0, 1.0], "high": [-1.0, -1.0]}),
        (("codec", "bounds"), {"kind": "ball", "radius": 0}),
        (("codec", "bounds"), {"kind": "box", "low": [-1e39, -1.0], "high": [3.0, 1.0]}),
        (("codec", "names"), "dx"),
        (("codec", "poses"), [{"rotation": [0, 1, 2]}] * 10_000),
        (("codec", "columns"), [0, 10**30]),
        (("codec", "lag"), 10**12),
        (("codec", "source"), "../../etc/passwd"),
    ]
    cases = [
        damaged(
            "field", f"{'.'.join(str(k)[:20] for k in keys)} is {json.dumps(value):.48}", edited(*keys, value=value)
        )
        for keys, value in wrong
    ]
    for keys in (("model",), ("golden",), ("format_version",), ("model", "backbone"), ("codec", "lag")):
        cases.append(damaged("field", f"{'.'.join(keys)} is missing", _removed(*keys)))
    return cases


def sizes() -> list[Case]:
    """Sizes that would take a hundred gigabytes, or forever."""
    distance = {"width": 24, "depth": 1, "directed": 8, "symmetric": 8, "fourier": 0, "frequency": 0.15}
    inverse = {"kind": "mlp", "width": 24, "max_gap": 1, "distribution": "gaussian", "bins": 21, "history": 1}
    motion = {"radius": 3, "match_dim": 32, "pool": [2, 3], "hidden": 64, "scene": 16, "dropout": 0.3}
    inverse["motion"] = motion | {"antisymmetric": True}
    large: list[tuple[str, list[tuple[tuple[str, ...], Any]]]] = [
        ("encoder.width", [(("encoder", "width"), 24 * 10**6)]),
        ("encoder.depth", [(("encoder", "depth"), GIANT)]),
        ("encoder.depth negative", [(("encoder", "depth"), -GIANT)]),
        ("encoder.width negative", [(("encoder", "width"), -24)]),
        ("encoder.heads and width", [(("encoder", "width"), 6 * 10**7), (("encoder", "heads"), 10**7)]),
        ("encoder.mlp_ratio", [(("encoder", "mlp_ratio"), 1e9)]),
        ("encoder.mlp_ratio of 1e300", [(("encoder", "mlp_ratio"), 1e300)]),
        ("encoder.channels", [(("encoder", "channels"), GIANT)]),
        ("encoder.tubelet", [(("encoder", "tubelet"), GIANT)]),
        ("encoder.patch", [(("encoder", "patch"), 10**5), (("encoder", "image_size"), [10**5, 10**5])]),
        ("encoder.image_size", [(("encoder", "image_size"), [4 * 10**6, 4 * 10**6])]),
        ("encoder.image_size of 1e300", [(("encoder", "image_size"), [4 * 10**300, 4])]),
        ("predictor.width", [(("predictor", "width"), 24 * 10**6)]),
        ("predictor.depth", [(("predictor", "depth"), GIANT)]),
        ("predictor.mask_tokens", [(("predictor", "mask_tokens"), GIANT)]),
        ("pooler.latents", [(("pooler", "latents"), GIANT)]),
        ("pooler.dim", [(("pooler", "dim"), GIANT)]),
        ("pooler.hidden", [(("pooler", "kind"), "flatten"), (("pooler", "hidden"), GIANT)]),
        ("patches as latents", [(("pooler", "kind"), "patches"), (("encoder", "image_size"), [65_536, 65_536])]),
        ("dynamics.width", [(("dynamics", "width"), GIANT)]),
        ("dynamics.depth", [(("dynamics", "depth"), GIANT)]),
        ("dynamics.history", [(("dynamics", "history"), GIANT)]),
        ("a transformer's depth", [(("dynamics", "kind"), "transformer"), (("dynamics", "depth"), GIANT)]),
        ("a transformer's proprio", [(("dynamics", "kind"), "transformer"), (("dynamics", "proprio"), 10**12)]),
        ("inverse.width", [(("inverse", "width"), GIANT)]),
        ("inverse.max_gap", [(("inverse", "max_gap"), 10**12)]),
        ("inverse.bins", [(("inverse", "distribution"), "categorical"), (("inverse", "bins"), 10**11)]),
        (
            "patches matched with all others",
            [
                (("pooler", "kind"), "patches"),
                (("encoder", "image_size"), [1024, 1024]),
                (("inverse", "kind"), "motion"),
            ],
        ),
        (
            "inverse.motion.hidden",
            [
                (("pooler", "kind"), "patches"),
                (("inverse", "kind"), "motion"),
                (("inverse", "motion", "hidden"), 10**11),
            ],
        ),
        ("distance.width", [(("distance",), distance | {"width": GIANT})]),
        ("distance.depth", [(("distance",), distance | {"depth": GIANT})]),
        ("distance.fourier", [(("distance",), distance | {"fourier": 10**10})]),
        ("goal_inverse.max_gap", [(("goal_inverse",), inverse | {"max_gap": 10**11})]),
        ("subgoal.width", [(("subgoal",), {"width": 10**8, "depth": 1})]),
        ("subgoal.depth", [(("subgoal",), {"width": 24, "depth": GIANT})]),
        ("features.rank", [(("features",), {"width": 24, "rank": 10**10})]),
        ("a backbone of a billion parameters", [(("backbone",), _backbone("timm:vit_gigantic_patch14_clip_224"))]),
        ("a backbone that timm has not", [(("backbone",), _backbone("timm:os.system"))]),
        ("a backbone of somebody's repository", [(("backbone",), _backbone("timm:hf-hub:someone/evil"))]),
        (
            "a backbone at a giant size",
            [(("backbone",), _backbone("timm:vit_tiny_patch16_224") | {"image_size": [16 * 10**6] * 2})],
        ),
    ]
    cases = [
        damaged("size", name, _several(*(edited("model", *keys, value=value) for keys, value in changes)))
        for name, changes in large
    ]
    for name, keys, value in (
        ("codec.block", ("block",), GIANT),
        ("codec.classes", ("classes",), [GIANT, 0]),
        ("codec.names of a million", ("names",), ["a"] * 400_000),
        ("codec.angles of a million", ("angles",), list(range(300_000))),
    ):
        cases.append(damaged("size", name, edited("codec", *keys, value=value)))
    return cases


def _backbone(name: str) -> dict[str, Any]:
    return {"name": name, "weights": None, "tokens": "patch", "image_size": None}
