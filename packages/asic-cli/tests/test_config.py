"""Flags win over ASIC_* variables, those over --config, that over the defaults."""

from __future__ import annotations

import tomllib

import pytest


@pytest.fixture
def plan(asic, photos):
    def ask(*arguments: object) -> dict[str, object]:
        result = asic("features", photos, "--dry-run", "--json", *arguments)
        assert result.code == 0, result.err
        return result.json

    return ask


def test_precedence(plan, tmp_path, monkeypatch) -> None:
    (tmp_path / "x.toml").write_text('[features]\nstride = 4\nbackbone = "gradients"\n[train]\nseed = 3\n')
    assert plan()["stride"] == 8
    assert plan("--config", "x.toml")["stride"] == 4
    monkeypatch.setenv("ASIC_STRIDE", "16")
    assert plan("--config", "x.toml")["stride"] == 16
    assert plan("--config", "x.toml", "--stride", 32)["stride"] == 32


def test_a_plan_writes_nothing(plan, tmp_path) -> None:
    assert plan("--size", 96)["tokens_per_photo"] == 12 * 12
    assert list(tmp_path.iterdir()) == []


def test_a_plan_for_people(asic, photos) -> None:
    assert "photos: 5" in asic("features", photos, "--dry-run").out
    assert "out: asic-out/x-run" in asic("train", "asic-out/x", "--dry-run").out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[features]\nsise = 4\n", "no setting 'sise'; expected one of .*size"),
        ("[features]\nfresh = true\n", "no setting 'fresh'"),
        ("[feature]\nsize = 4\n", "expected tables of commands"),
        ("size = 4\n", "expected tables of commands"),
        ("[features]\nsize = [4]\n", "size: expected a value"),
        ("[features]\nsize = true\n", "size: expected a value"),
        ("[features]\nskip-bad = 1\n", "skip-bad: expected true or false"),
        ("[features\n", "expected TOML"),
        ("\xff", "expected TOML"),
    ],
)
def test_faults_of_the_file_are_named(asic, photos, tmp_path, text, message) -> None:
    import re

    (tmp_path / "x.toml").write_bytes(text.encode("latin-1"))
    result = asic("features", photos, "--config", "x.toml")
    assert result.code == 2
    assert re.search(f"x.toml.*{message}", result.err)


def test_a_value_of_the_wrong_kind_is_bad_usage(asic, photos, tmp_path) -> None:
    (tmp_path / "x.toml").write_text('[features]\nsize = "big"\n')
    result = asic("features", photos, "--config", "x.toml")
    assert (result.code, "--size" in result.err) == (2, True)


def test_a_missing_file_is_named(asic, photos) -> None:
    result = asic("features", photos, "--config", "none.toml")
    assert (result.code, "none.toml: No such file" in result.err) == (2, True)


def test_the_printed_settings_read_back_the_same(asic, photos, tmp_path) -> None:
    odd = 'a "quoted" \\ name\x7f'
    arguments = ("--size", 96, "--backbone", "dino_vits8", "--out", odd, "--skip-bad", "--facet", "query")
    printed = asic("features", photos, *arguments, "--print-config")
    settings = tomllib.loads(printed.out)["features"]
    assert settings["block"] == "9"
    assert settings["out"] == odd
    assert settings["skip-bad"] is True
    (tmp_path / "x.toml").write_text(printed.out)
    assert asic("features", photos, "--config", "x.toml", "--print-config").out == printed.out
    for command in ("train", "eval"):
        printed = asic(command, "x", "--seed", 5, "--print-config")
        assert tomllib.loads(printed.out)[command]["seed"] == 5


def test_the_printed_settings_of_the_weight_free_descriptor_read_back(asic, photos, tmp_path) -> None:
    (tmp_path / "x.toml").write_text(asic("features", photos, "--print-config").out)
    assert asic("features", photos, "--config", "x.toml", "--dry-run").code == 0
