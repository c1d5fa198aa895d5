"""Every check of the workspace. `nox` runs the default ones; `nox -l` lists them all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import nox

nox.needs_version = ">=2026.4"
nox.options.default_venv_backend = "uv"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = [
    "style",
    "packages",
    "kernels",
    "eval_alone",
    "examples",
    "browser",
    "build",
]

PACKAGES = ("asic-eval", "asic-flow", "asic-features", "asic-cli")
SOURCES = [f"packages/{name}/src" for name in PACKAGES]
WORKSPACE = str(Path(__file__).parent / ".nox" / "workspace")
# Two OpenMP threads on a busy machine can be slower than one, so tests take one each.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "TRITON_DEFAULT_FP_FUSION": "1"}

# What a benchmark is compared with and nothing else here needs.
FAISS = "faiss-gpu-cu12" if shutil.which("nvidia-smi") else "faiss-cpu"
PEERS = {"eval": ("torchmetrics",), "match_cosine": (FAISS, "pykeops")}


# Sessions of others that take one core each and measure no time, at once; what they say is shown as each ends.
SIDE_BY_SIDE = ("style", "packages", "kernels", "examples")


def run(session: nox.Session, *command: str, env: dict[str, str] | None = None) -> None:
    """Runs a command in the environment that holds the four packages and the dev group; uv keeps it up to date."""
    quiet = session.name in SIDE_BY_SIDE
    output = session.run(
        "uv",
        "run",
        "--quiet",
        "--all-packages",
        "--group=dev",
        *command,
        external=True,
        silent=quiet,
        env={"UV_PROJECT_ENVIRONMENT": WORKSPACE, "UV_COMPILE_BYTECODE": "1", **(env or {})},
    )
    if quiet:
        session.log(output)


def side_by_side(
    session: nox.Session, first: Callable[[nox.Session], None], second: Callable[[nox.Session], None]
) -> None:
    """Runs two sessions' commands at once, in an environment brought up to date first; fails if either does."""
    run(session, "python", "--version")
    with ThreadPoolExecutor(2) as pool:
        for ended in [pool.submit(check, session) for check in (first, second)]:
            ended.result()


@nox.session(venv_backend="none")
def lint(session: nox.Session) -> None:
    """Format and style of every Python file."""
    run(session, "ruff", "format", "--check", ".")
    run(session, "ruff", "check", ".")


@nox.session(venv_backend="none")
def types(session: nox.Session) -> None:
    """Strict typing of the four packages, the benchmarks and this file."""
    run(session, "mypy", *SOURCES, "benchmarks", "noxfile.py")


@nox.session(venv_backend="none")
def style(session: nox.Session) -> None:
    """`lint` and `types`, side by side."""
    side_by_side(session, lint, types)


@nox.session(venv_backend="none")
@nox.parametrize("package", PACKAGES, ids=PACKAGES)
def tests(session: nox.Session, package: str) -> None:
    """Tests and doctests of one package; arguments after -- go to pytest."""
    run(session, "pytest", f"packages/{package}", *session.posargs, env=ONE_THREAD)


@nox.session(venv_backend="none")
def packages(session: nox.Session) -> None:
    """`tests` of asic-cli, which take as long as all the others, beside these."""

    def others(session: nox.Session) -> None:
        for package in PACKAGES[:-1]:
            tests(session, package)

    side_by_side(session, partial(tests, package=PACKAGES[-1]), others)


@nox.session(venv_backend="none")
def interpret(session: nox.Session) -> None:
    """Every Triton kernel on the CPU interpreter, against the references."""
    run(
        session,
        "pytest",
        "packages/asic-flow/tests/kernels",
        *session.posargs,
        env=ONE_THREAD | {"TRITON_INTERPRET": "1"},
    )


@nox.session(venv_backend="none")
def compile(session: nox.Session) -> None:  # noqa: A001
    """Every Triton kernel compiled ahead of time for sm_80 and sm_90, registers and spills checked; needs no GPU."""
    run(session, "pytest", "packages/asic-flow/tests/kernels/test_compile.py", env=ONE_THREAD)


@nox.session(venv_backend="none")
def kernels(session: nox.Session) -> None:
    """`interpret` and `compile`, side by side."""
    side_by_side(session, interpret, compile)


@nox.session(python="3.12")
def oldest(session: nox.Session) -> None:
    """The kernels interpreted and compiled with torch 2.11 and Triton 3.6, which wants NumPy below 2.4."""
    # The workspace's own constraints are the newest versions.
    tools = ("torch==2.11.*", "triton==3.6.*", "numpy<2.4", "pytest>=9.0")
    session.install(*tools, "-e", "packages/asic-flow", env={"UV_NO_CONFIG": "1"})
    kernels = "packages/asic-flow/tests/kernels"
    session.run("pytest", kernels, *session.posargs, env=ONE_THREAD)
    session.run("pytest", kernels, env=ONE_THREAD | {"TRITON_INTERPRET": "1"})
    session.run("pytest", f"{kernels}/test_compile.py", env=ONE_THREAD)


@nox.session
def eval_alone(session: nox.Session) -> None:
    """asic-eval installed alone brings numpy and nothing else, and works."""
    session.install("./packages/asic-eval")
    listed = session.run("uv", "pip", "list", "--quiet", "--format=freeze", silent=True, external=True)
    installed = sorted(line.split("==")[0].split(" @ ")[0] for line in str(listed).splitlines() if line)
    if installed != ["asic-eval", "numpy"]:
        session.error(f"asic-eval alone brought {installed}")
    session.run("python", "-m", "asic_eval", "published")


@nox.session(venv_backend="none")
def readme(session: nox.Session) -> None:
    """README's demo command as it stands, in the working tree."""
    run(session, "pytest", "tests", *session.posargs, env=ONE_THREAD)


@nox.session(venv_backend="none")
def browser(session: nox.Session) -> None:
    """The viewer in headless Chromium: the one ASIC_BROWSER names, or Debian's, or none and nothing is tested."""
    found = os.environ.get("ASIC_BROWSER") or shutil.which("chromium")
    if found is None:
        session.skip("no chromium is installed, and ASIC_BROWSER names none")
    tests = (f"packages/asic-cli/tests/viewer/{name}.py" for name in ("test_browser", "test_compare_page"))
    run(session, "--with=playwright", "pytest", *tests, *session.posargs, env=ONE_THREAD | {"ASIC_BROWSER": found})


@nox.session(venv_backend="none")
def notebook(session: nox.Session) -> None:
    """The notebook in examples, from top to bottom."""
    extra = ("--with=nbclient", "--with=nbformat", "--with=ipykernel")
    run(session, *extra, "pytest", "tests/test_notebook.py", env=ONE_THREAD)


@nox.session(venv_backend="none")
def examples(session: nox.Session) -> None:
    """`readme` and `notebook`, side by side."""
    side_by_side(session, readme, notebook)


@nox.session(venv_backend="none")
def crf(session: nox.Session) -> None:
    """The built-in dense CRF against pydensecrf, which takes a minute to compile."""
    run(session, "--group=crf", "pytest", "packages/asic-features/tests/test_crf.py", env=ONE_THREAD)


@nox.session(venv_backend="none")
def onnx(session: nox.Session) -> None:
    """The exported flow network in onnxruntime, against torch."""
    extras = ("--with=onnx", "--with=onnxscript", "--with=onnxruntime")
    tests_of = ("packages/asic-flow/tests/paper/test_export.py", "packages/asic-cli/tests/test_export.py")
    run(session, *extras, "pytest", *tests_of, env=ONE_THREAD)


@nox.session(venv_backend="none")
def masks(session: nox.Session) -> None:
    """Masks that need an extra: networks in onnxruntime, and OpenCV's cut."""
    extras = ("--with=onnx", "--with=onnxruntime", "--with=opencv-python-headless")
    names = ("onnx_masks.py", "grabcut.py", "extract.py::test_found_masks_are_tidied")
    tests_of = (f"packages/asic-features/tests/test_{name}" for name in names)
    run(session, *extras, "pytest", *tests_of, *session.posargs, env=ONE_THREAD)


@nox.session(venv_backend="none")
def trackers(session: nox.Session) -> None:
    """What TensorBoard and Weights & Biases are told, with both installed and no network."""
    extras = ("--with=tensorboard", "--with=wandb")
    run(session, *extras, "pytest", "packages/asic-cli/tests/test_tracking.py", env=ONE_THREAD)


@nox.session
def build(session: nox.Session) -> None:
    """Wheels of the four packages, installed together and run."""
    out = Path(session.create_tmp()).resolve()
    for name in PACKAGES:
        session.run("uv", "build", "--quiet", "--wheel", "--out-dir", str(out), f"packages/{name}", external=True)
    wheels = sorted(out.glob("asic_*.whl"))
    if len(wheels) != len(PACKAGES):
        session.error(f"expected {len(PACKAGES)} wheels, got {[wheel.name for wheel in wheels]}")
    session.install("--no-deps", *map(str, wheels))
    session.install("typer>=0.29,<0.30", "rich>=15", "filelock", "numpy", "pillow")
    session.run("asic", "--help", silent=True)


@nox.session(venv_backend="none")
def fuzz(session: nox.Session) -> None:
    """100,000 mutations of every annotation format (half an hour; one format: `nox -s fuzz -- -k coco`)."""
    count = os.environ.get("ASIC_FUZZ_MUTATIONS", "100000")
    tests_of = "packages/asic-eval/tests/test_fuzz.py"
    run(session, "pytest", tests_of, *session.posargs, env=ONE_THREAD | {"ASIC_FUZZ_MUTATIONS": count})


@nox.session(venv_backend="none")
def mutation(session: nox.Session) -> None:
    """Mutants of asic-eval against its tests (an hour; some of them: `nox -s mutation -- 'asic_eval.pck*'`)."""
    with session.chdir("packages/asic-eval"):
        run(session, "--with=mutmut==3.8.1", "mutmut", "run", "--max-children=1", *session.posargs, env=ONE_THREAD)
        run(session, "--with=mutmut==3.8.1", "mutmut", "results", env=ONE_THREAD)


@nox.session(venv_backend="none")
def gpu(session: nox.Session) -> None:
    """Correctness of the kernels, of the preparation and of training on a real GPU."""
    probe = "import sys, torch; sys.exit(0 if torch.cuda.is_available() else 'no CUDA device: nothing to check here')"
    run(session, "python", "-c", probe)
    tested = ("packages/asic-flow/tests/kernels", "packages/asic-flow/tests/paper", "packages/asic-features/tests")
    run(session, "pytest", *tested, "-m", "gpu", *session.posargs)


@nox.session(venv_backend="none")
def study(session: nox.Session) -> None:
    """Presets and baselines on the real photos of ASIC_REAL_DATA; writes docs/benchmarks.md; flags after --."""
    if not os.environ.get("ASIC_REAL_DATA"):
        session.skip("ASIC_REAL_DATA names no folder of real photos and weights")
    run(session, "python", "benchmarks/study.py", *session.posargs)


@nox.session(venv_backend="none")
def bench(session: nox.Session) -> None:
    """Benchmarks after their tests, with every peer: `nox -s bench -- match_cosine --threads=2`; no name: all."""
    known = sorted(path.stem.removeprefix("bench_") for path in Path("benchmarks").glob("bench_*.py"))
    asked = [name for name in session.posargs if not name.startswith("-")] or known
    if unknown := sorted(set(asked) - set(known)):
        session.error(f"no benchmark called {unknown}; there are {known}")
    for name in asked:
        run(
            session,
            *(f"--with={peer}" for peer in PEERS.get(name, ())),
            "python",
            f"benchmarks/bench_{name}.py",
            *(flag for flag in session.posargs if flag.startswith("-")),
        )
