"""README's commands, run as they stand."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def command(name: str) -> str:
    found = re.search(rf"<!-- {name} -->\n```bash\n(.*?)```\n<!-- end -->", README, re.DOTALL)
    if found is None:
        raise ValueError(f"README.md: no block of shell commands marked {name!r}")
    return found.group(1)


def test_the_demo_command_ends_with_scores_and_a_report(tmp_path: Path) -> None:
    shell = command("demo").replace("asic demo", f"asic demo --out '{tmp_path}/demo'")
    finished = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", shell],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr[-2000:]
    reports = list(tmp_path.rglob("report.html"))
    assert len(reports) == 1
    assert "nearest_neighbour" in (reports[0].parent / "summary.json").read_text()


def test_continuous_integration_runs_the_test_command() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "<!-- test -->" in script
    assert "nox" in command("test")


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs/architecture.md"])
def test_every_file_a_page_links_to_exists(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", text)
    missing = [link for link in links if not ((ROOT / page).parent / link).exists()]
    assert not missing
