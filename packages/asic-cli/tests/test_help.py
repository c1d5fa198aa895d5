from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from asic_cli.app import app

COMMANDS = [
    "features",
    "train",
    "eval",
    "transfer",
    "add",
    "view",
    "edit",
    "animate",
    "compare",
    "export",
    "demo",
    "doctor",
    "weights",
]
README = Path(__file__).parents[1] / "README.md"


@pytest.mark.parametrize("command", [[], *([command] for command in COMMANDS), ["weights", "fetch"]])
def test_every_command_has_help_by_either_flag(command: list[str]) -> None:
    results = [CliRunner().invoke(app, [*command, flag], prog_name="asic") for flag in ("--help", "-h")]
    assert [result.exit_code for result in results] == [0, 0]
    assert results[0].stdout == results[1].stdout
    assert "Usage: asic" in results[0].stdout


def test_help_names_every_command() -> None:
    text = CliRunner().invoke(app, ["--help"]).stdout
    assert all(f"  {command} " in text for command in COMMANDS)


def test_help_of_no_command_imports_torch() -> None:
    script = (
        "import sys\n"
        "from asic_cli.__main__ import main\n"
        f"for command in {COMMANDS!r}: assert main([command, '--help']) == 0\n"
        "assert main(['--help']) == 0\n"
        "heavy = {'torch', 'timm', 'scipy', 'asic_flow.collection'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_help_takes_less_than_a_second(processor_seconds) -> None:
    assert min(processor_seconds("-m", "asic_cli", "--help")[1] for _ in range(3)) < 1


def test_readme_shows_what_help_says() -> None:
    shown = CliRunner().invoke(app, ["--help"], prog_name="asic", env={"COLUMNS": "80"}).stdout
    assert f"```\n{shown.strip()}\n```" in README.read_text()


def test_a_mistyped_command_and_flag_are_answered_with_the_nearest() -> None:
    result = CliRunner().invoke(app, ["trian", "x"])
    assert (result.exit_code, "Did you mean 'train'" in result.stderr) == (2, True)
    result = CliRunner().invoke(app, ["train", "x", "--sed", "1"])
    assert (result.exit_code, "--seed" in result.stderr) == (2, True)


def test_version() -> None:
    assert CliRunner().invoke(app, ["--version"]).stdout.startswith("asic 0.")
