from __future__ import annotations

import doctest
import re
from pathlib import Path

from asic_eval import PROTOCOLS
from asic_eval.__main__ import _parser
from asic_eval.benchmarks.reading import READERS

README = Path(__file__).resolve().parents[1] / "README.md"


def test_examples_run() -> None:
    results = doctest.testfile(str(README), module_relative=False)
    assert results.attempted >= 8
    assert results.failed == 0


def test_every_protocol_is_in_the_table() -> None:
    table = README.read_text().partition("## Which protocol should I report?")[2].partition("## Python")[0]
    named = set(re.findall(r"`([a-z0-9-]+)`", table)) - {"--mirror-aware"}
    assert named == set(PROTOCOLS)
    assert set(re.findall(r"--benchmark ([a-z0-9-]+)", README.read_text())) <= set(READERS)


def test_commands_are_understood() -> None:
    commands = re.findall(r"^    python -m asic_eval (.*)$", README.read_text(), flags=re.MULTILINE)
    assert len(commands) == 7
    for command in commands:
        assert _parser().parse_args(command.split()).command == command.split()[0]
