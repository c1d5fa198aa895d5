"""Small drawn photos taken through the commands once, and a server that forks commands for tests that kill them."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from asic_cli.__main__ import main
from asic_eval.benchmarks.synthetic import draw_collection


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Asic = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("ASIC_") and name != "ASIC_REAL_DATA"]:
        monkeypatch.delenv(name)


@pytest.fixture
def processor_seconds() -> Callable[..., tuple[subprocess.CompletedProcess[str], float]]:
    """Runs Python with arguments in a fresh process; what it says, and the time it had of the processor, not the clock.

    The first of several runs may compile what later ones load: a limit is held against the shortest.
    """

    def run(*arguments: str, **options: Any) -> tuple[subprocess.CompletedProcess[str], float]:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, **options)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return done, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime

    return run


@pytest.fixture
def asic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Asic:
    """Runs a command in this process, in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


def _draw(folder: Path, names: list[str]) -> Path:
    for name, pixels in zip(names, draw_collection(1, len(names), 120).images, strict=True):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, format="PNG")
    return folder


@pytest.fixture
def draw() -> Callable[[Path, list[str]], Path]:
    """Draws as many creatures of 120 x 120 pixels as there are names."""
    return _draw


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five drawn creatures. Not to be changed."""
    return _draw(tmp_path_factory.mktemp("drawn") / "photos", [f"{index}.png" for index in range(5)])


@pytest.fixture(scope="session")
def collection(photos: Path) -> Path:
    """Their collection. Not to be changed."""
    folder = photos.parent / "collection"
    assert main(["features", str(photos), "--out", str(folder), "--size", "96", "--stride", "8"]) == 0
    return folder


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> tuple[object, ...]:
    """Flags of a ViT-Tiny that was never trained."""
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save_file(timm.create_model("vit_tiny_patch16_224", pretrained=False, num_classes=0).state_dict(), path)
    return ("--backbone", "vit_tiny_p16", "--weights", path)


@pytest.fixture(scope="session")
def run(collection: Path) -> Path:
    """Their run, not scored yet. Not to be changed."""
    folder = collection.parent / "run"
    assert main(["train", str(collection), "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `asic demo` leaves. Not to be changed."""
    folder = tmp_path_factory.mktemp("demo") / "out"
    assert main(["demo", "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def unscored(demo: Path, tmp_path: Path) -> Path:
    """The run of a demo before `asic eval`: its photos have annotated points."""
    shutil.copytree(demo / "collection", tmp_path / "collection")
    return shutil.copytree(demo / "run", tmp_path / "run", ignore=shutil.ignore_patterns("summary.json", "report.html"))


@dataclass(frozen=True)
class Child:
    """A command in a process of its own."""

    pid: int
    server: subprocess.Popen[str]
    out: Path

    def kill(self, signum: int) -> None:
        os.kill(self.pid, signum)

    def wait(self) -> Outcome:
        """Waits; the code of a killed process is minus the signal."""
        code = _ask(self.server, {"wait": self.pid})
        return Outcome(code, (self.out / "stdout").read_text(), (self.out / "stderr").read_text())


@dataclass
class CommandServer:
    """Starts commands by forking a process that has torch imported, which takes seconds otherwise."""

    server: subprocess.Popen[str]
    folder: Path
    started: int = 0

    def start(self, *arguments: object, largest_file: int | None = None) -> Child:
        self.started += 1
        out = self.folder / str(self.started)
        out.mkdir()
        request = {"arguments": [str(argument) for argument in arguments], "out": str(out), "fsize": largest_file}
        return Child(_ask(self.server, request), self.server, out)

    def run(self, *arguments: object, largest_file: int | None = None) -> Outcome:
        return self.start(*arguments, largest_file=largest_file).wait()


def _ask(server: subprocess.Popen[str], request: dict[str, Any]) -> int:
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(json.dumps(request) + "\n")
    server.stdin.flush()
    return int(server.stdout.readline())


@pytest.fixture(scope="session")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandServer]:
    folder = tmp_path_factory.mktemp("commands")
    script = Path(__file__).with_name("command_server.py")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ASIC_")}
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=folder,
        env=environment | {"OMP_NUM_THREADS": "1"},
    ) as server:
        assert server.stdout is not None
        # The first command is not to take the time of the imports.
        assert int(server.stdout.readline()) == server.pid
        yield CommandServer(server, folder)
        server.send_signal(signal.SIGKILL)


@pytest.fixture
def real_data() -> Path:
    """The folder that ASIC_REAL_DATA names."""
    folder = os.environ.get("ASIC_REAL_DATA")
    if not folder:
        pytest.skip("ASIC_REAL_DATA names no folder of real photos and weights")
    return Path(folder)
