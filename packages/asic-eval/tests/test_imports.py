from __future__ import annotations

import subprocess
import sys

import pytest

PROBE = """
import sys
before = set(sys.modules)
{statement}
roots = {{name.partition(".")[0] for name in set(sys.modules) - before}}
print(*sorted(roots - set(sys.stdlib_module_names) - {{"asic_eval", "numpy"}}))
"""
MODULES = """
import importlib, pkgutil, asic_eval
for module in pkgutil.walk_packages(asic_eval.__path__, "asic_eval."):
    if module.name != "asic_eval.torch_metric":
        importlib.import_module(module.name)
"""


def strangers(statement: str) -> list[str]:
    # -S: no site-packages hooks of other tools; their folder is put on the path by hand.
    code = f"import sys; sys.path[:] = {sys.path!r}\n" + PROBE.format(statement=statement)
    finished = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True)
    return finished.stdout.split()


def test_numpy_and_nothing_else() -> None:
    assert strangers(MODULES) == []


def test_the_probe_can_fail() -> None:
    assert strangers("import pytest") != []
    pytest.importorskip("PIL")
    assert "PIL" in strangers("import asic_eval, PIL.Image")


def test_importing_is_quick() -> None:
    """Under 0.15 s beyond numpy's own, of the processor's time: others use the machine too."""
    code = "import time, numpy; start = time.process_time(); import asic_eval; print(time.process_time() - start)"

    def once() -> float:
        return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)

    assert min(once() for _ in range(3)) < 0.15
