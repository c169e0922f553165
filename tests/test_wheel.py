"""The wheel and the sdist: what is inside, one built from the other, and that it works outside the repository."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


def check(command: list[str], cwd: Path, **env: str) -> str:
    done = subprocess.run(command, cwd=cwd, env=os.environ | env, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist and the wheel that was built from it."""
    out = tmp_path_factory.mktemp("dist")
    check([sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(REPOSITORY)], out)
    return out


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the installed wheel and nothing of the repository."""
    target = tmp_path_factory.mktemp("site")
    (wheel,) = built.glob("*.whl")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target)]
    check([*pip, str(wheel)], target)
    return target


def files_below(*folders: str) -> set[str]:
    """Tracked and new files of the repository that git does not ignore."""
    listed = check(["git", "ls-files", "-co", "--exclude-standard", "--", *folders], REPOSITORY).splitlines()
    return {name for name in listed if (REPOSITORY / name).is_file()}


needs_git = pytest.mark.skipif(not (REPOSITORY / ".git").exists(), reason="not a git checkout")


@needs_git
def test_the_wheel_carries_the_package_the_recipes_and_the_protocols_and_nothing_else(built: Path):
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
        metadata = [name for name in archive.namelist() if ".dist-info/" in name]
    expected = files_below("jepa_actions")
    expected |= {f"jepa_actions/_{name}" for name in files_below("recipes")}
    expected |= {f"jepa_actions/_{name.removeprefix('eval/')}" for name in files_below("eval/protocols")}
    expected |= {"jepa_actions/_results/two_room_terms.json"}
    assert inside == expected
    assert any(name.endswith("licenses/LICENSE") for name in metadata)
    assert any(name.endswith("entry_points.txt") for name in metadata)


@needs_git
def test_the_sdist_carries_what_a_wheel_and_the_tests_need(built: Path):
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    wanted = files_below("jepa_actions", "recipes", "eval/protocols", "tests", "LICENSE", "README.md", "pyproject.toml")
    assert wanted <= inside
    assert not {name for name in inside if name.startswith(("runs/", "checkpoints/", ".venv/", "dist/"))}


FIND = """
import json, sys
from pathlib import Path
import jepa_actions
from jepa_actions.errors import ConfigError
from jepa_actions.resources import protocol_names, protocol_path, recipe_names, recipe_path, train_script
assert Path(jepa_actions.__file__).is_relative_to(sys.argv[1]), jepa_actions.__file__
paths = [recipe_path(n) for n in recipe_names()] + [protocol_path(n + ".yaml") for n in protocol_names()]
assert all(p.is_file() and p.is_relative_to(sys.argv[1]) for p in paths)
try:
    recipe_path("no/such")
except ConfigError as error:
    message = str(error)
out = {"recipes": recipe_names(), "protocols": protocol_names(), "message": message, "train": train_script().is_file()}
print(json.dumps(out))
"""


def test_recipes_and_protocols_are_found_outside_the_repository(installed: Path, tmp_path: Path):
    # PYTHONPATH comes before the editable install; -P keeps the current folder out
    out = json.loads(check([sys.executable, "-P", "-c", FIND, str(installed)], tmp_path, PYTHONPATH=str(installed)))
    here = json.loads(check([sys.executable, "-P", "-c", FIND, str(REPOSITORY)], tmp_path, PYTHONPATH=str(REPOSITORY)))
    assert out == here
    assert "vjepa/two_room" in out["recipes"]
    assert "two_room/offset25" in out["protocols"]
    assert out["message"].startswith("no recipe named 'no/such'; known: ")
    assert out["train"] is True


def test_the_command_answers_outside_the_repository(installed: Path, tmp_path: Path):
    command = [sys.executable, "-P", str(installed / "bin" / "jepa-actions"), "--help"]
    assert "demo" in check(command, tmp_path, PYTHONPATH=str(installed))


@pytest.mark.slow
def test_the_demo_runs_from_the_installed_wheel(installed: Path, tmp_path: Path):
    out = tmp_path / "demo"
    command = [
        sys.executable,
        "-P",
        str(installed / "bin" / "jepa-actions"),
        "demo",
        "--steps",
        "20",
        "--out",
        str(out),
    ]
    check(command, tmp_path, PYTHONPATH=str(installed))
    report = json.loads((out / "report.json").read_text())
    assert {"planning", "inverse", "probe", "rollout", "seconds"} <= set(report)
    page = (out / "report.html").read_text()
    assert 'src="http' not in page
    assert 'href="http' not in page
