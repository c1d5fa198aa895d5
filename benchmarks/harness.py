"""Runs an operation's providers in turn on the same inputs and writes one result file.

The operation's tests run first and stop the benchmark when red; a provider that fails fails the run.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import importlib.metadata
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results"
SCHEMA = 2
LEAST = 0.02
GRAPHED = 10
LIBRARIES = (
    "torch",
    "triton",
    "timm",
    "numpy",
    "scipy",
    "scikit-learn",
    "torchmetrics",
    "faiss-cpu",
    "faiss-gpu-cu12",
    "pykeops",
)


@dataclass(frozen=True)
class Provider:
    """One way to do the work: `run` is timed; `quality` says what it gives up, in words, after one run."""

    name: str
    run: Callable[[], object]
    ours: bool = False
    quality: Callable[[], str] | None = None


@dataclass(frozen=True)
class Case:
    """One shape of an operation.

    Attributes:
        name: what is computed, as the table says it.
        work: amount of work of one run, in the units of `unit` times a second.
        unit: `"FLOP/s"` or `"B/s"`; the formula of `work` stands beside each case.
        floor: the provider that the others are compared with.
        target: the ratio to the floor that ours should reach, `None` where none is set.
        graph: whether nothing in it waits for a GPU, so that every way is also timed as a CUDA graph.
    """

    name: str
    work: float
    unit: str
    floor: str
    providers: list[Provider]
    target: float | None = None
    repeats: int = 9
    graph: bool = False


@dataclass(frozen=True)
class Measurement:
    """Times in seconds: median, 20th and 80th percentile, and in a graph; peak extra memory in MB; rate in `unit`."""

    provider: str
    ours: bool
    median_s: float
    p20_s: float
    p80_s: float
    peak_extra_mb: float
    rate: float
    ratio_to_floor: float
    quality: str
    graph_s: float | None = None


@dataclass(frozen=True)
class CaseResult:
    """What one case gave."""

    name: str
    work: float
    unit: str
    floor: str
    target: float | None
    measurements: list[Measurement]


@dataclass(frozen=True)
class Result:
    """One result file."""

    operation: str
    version: str
    device: str
    threads: int
    commit: str
    libraries: dict[str, str]
    cases: list[CaseResult]
    schema: int = field(default=SCHEMA)


def peer(name: str) -> Any | None:
    """Return a peer's module; `None`, with the reason printed, where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        print(f"left out: {error}")
        return None


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _peak(run: Callable[[], object], device: torch.device) -> float:
    """Return the growth of the peak memory in MB over one run."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    # Memory that was freed before, but not given back, would hide what this run takes.
    ctypes.CDLL(None).malloc_trim(0)
    # Writing 5 lowers the kernel's record of the peak to what is resident now.
    Path("/proc/self/clear_refs").write_text("5")
    lowest = _high_water()
    run()
    return _high_water() - lowest


def _high_water() -> float:
    """Return the peak of the resident memory in MB."""
    return float(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text()).group(1)) / 1024  # type: ignore[union-attr]


def _timed(provider: Provider, runs: int, device: torch.device) -> float:
    """Return the mean seconds of some runs in a row."""
    _synchronize(device)
    start = time.perf_counter()
    for _ in range(runs):
        provider.run()
    _synchronize(device)
    return (time.perf_counter() - start) / runs


def _runs(provider: Provider, device: torch.device) -> int:
    """Return how many runs in a row fill `LEAST`, the smallest power of two; the first ones, cold, do not decide it."""
    runs = 1
    while runs * _timed(provider, runs, device) < LEAST:
        runs *= 2
    return runs


def _in_a_graph(provider: Provider, repeats: int) -> float:
    """Return the median seconds of a run, of `GRAPHED` in one CUDA graph: the GPU's time, whatever launching costs."""
    aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            provider.run()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(GRAPHED):
            provider.run()
    replayed = Provider(provider.name, graph.replay)
    device = torch.device("cuda")
    runs = _runs(replayed, device)
    return statistics.median(_timed(replayed, runs, device) for _ in range(repeats)) / GRAPHED


def measure(case: Case, device: torch.device) -> CaseResult:
    """Warm every provider up, then time them in turn, so that all meet the same state of the machine.

    What takes less than `LEAST` is run as often as fills it, and the time divided, or the clock and the caches that
    the provider before it left would be measured.
    """
    peaks = {provider.name: _peak(provider.run, device) for provider in case.providers}
    runs = {provider.name: _runs(provider, device) for provider in case.providers}
    times: dict[str, list[float]] = {provider.name: [] for provider in case.providers}
    for _ in range(case.repeats):
        for provider in case.providers:
            times[provider.name].append(_timed(provider, runs[provider.name], device))
    medians = {name: statistics.median(values) for name, values in times.items()}
    measurements = []
    for provider in case.providers:
        median = medians[provider.name]
        low, high = median, median
        if case.repeats > 1:
            low, *_, high = statistics.quantiles(times[provider.name], n=5, method="inclusive")
        measurements.append(
            Measurement(
                provider.name,
                provider.ours,
                median,
                low,
                high,
                peaks[provider.name],
                case.work / median,
                median / medians[case.floor],
                provider.quality() if provider.quality else "",
                _in_a_graph(provider, case.repeats) if case.graph and device.type == "cuda" else None,
            )
        )
    return CaseResult(case.name, case.work, case.unit, case.floor, case.target, measurements)


def device_name(device: torch.device) -> str:
    """Return the device in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def _libraries() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _commit() -> str:
    git = ["git", "-C", str(ROOT)]
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    changed = subprocess.run([*git, "status", "--porcelain", "--", "packages"], check=True, capture_output=True)
    return commit + ("+changes" if changed.stdout else "")


def require_green(tests: str) -> None:
    """Run tests, and stop where one is red: what is wrong is not measured."""
    command = [sys.executable, "-m", "pytest", "-q", tests]
    if subprocess.run(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}).returncode:
        sys.exit(f"{tests}: red, nothing was measured")


def record(operation: str, package: str, device: torch.device, threads: int, cases: list[CaseResult]) -> None:
    """Write measured cases to the result file of the package's version and the device, and print them."""
    version, name = importlib.metadata.version(package), device_name(device)
    result = Result(operation, version, name, threads, _commit(), _libraries(), cases)
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    file = RESULTS / version / f"{operation}--{slug}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(asdict(result), indent=1) + "\n")
    print(file.relative_to(ROOT))
    for case in cases:
        print(case.name)
        for measured in case.measurements:
            print(
                f"  {measured.provider:45} {measured.median_s * 1e3:10.3f} ms  x {measured.ratio_to_floor:8.4f}"
                f"  {measured.peak_extra_mb:7.0f} MB  {measured.quality}"
                + ("" if measured.graph_s is None else f"  {measured.graph_s * 1e3:.4f} ms in a graph")
            )


def main(operation: str, make_cases: Callable[[torch.device], list[Case]], tests: str | None = None) -> None:
    """Run the tests, a kernel's own where none are named, then the cases on the device asked for; write the result."""
    parser = argparse.ArgumentParser(description=f"Benchmark {operation} against its peers.")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    require_green(tests or f"packages/asic-flow/tests/kernels/test_{operation}.py")
    torch.set_num_threads(arguments.threads)
    cases = [measure(case, device) for case in make_cases(device)]
    record(operation, "asic-flow", device, arguments.threads, cases)
