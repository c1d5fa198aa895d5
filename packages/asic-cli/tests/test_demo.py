from __future__ import annotations

import json
import shutil

from asic_cli import demo as demo_command
from asic_eval.benchmarks.spair import read_spair
from asic_eval.benchmarks.synthetic import draw_collection
from asic_flow.atomic import TEMPORARY_PREFIX


def test_the_data_sets_own_reader_reads_the_drawings(demo) -> None:
    truth = read_spair(demo / "photos", "creature")
    drawn = draw_collection(0, 10, 256).benchmark
    assert [image.name for image in truth.images] == [image.name for image in drawn.images]
    assert (truth.asked == drawn.asked).all()


def test_it_leaves_a_report_and_is_not_drawn_twice(asic, demo, tmp_path) -> None:
    assert (demo / "run" / "report.html").stat().st_size > 100_000
    copied = shutil.copytree(demo, tmp_path / "demo")
    before = (copied / "collection" / "collection.json").read_bytes()
    result = asic("demo", "--out", copied, "--json")
    assert result.code == 0, result.err
    assert "drawing" not in result.err
    assert result.json == json.loads((copied / "run" / "summary.json").read_text())
    assert (copied / "collection" / "collection.json").read_bytes() == before


def test_another_seed_in_the_same_folder_stops(asic, demo, tmp_path) -> None:
    copied = shutil.copytree(demo, tmp_path / "demo")
    result = asic("demo", "--out", copied, "--seed", 1)
    assert (result.code, "seed: 0 in the folder, now 1" in result.err) == (2, True)


def test_damaged_drawings_are_drawn_again(tmp_path) -> None:
    drawing = demo_command.Drawing(3, num_images=2, size=32)
    demo_command._draw(tmp_path, drawing, fresh=False)
    assert json.loads((tmp_path / "demo.json").read_text())["seed"] == 3
    picture = tmp_path / "photos" / "JPEGImages" / "creature" / "000.png"
    whole = picture.read_bytes()
    for damage in (
        lambda: (tmp_path / "demo.json").write_text("{"),
        lambda: (tmp_path / "demo.json").write_text("5"),
        picture.unlink,
        lambda: picture.write_bytes(whole[:99]),
        lambda: shutil.rmtree(tmp_path / "photos"),
    ):
        damage()
        demo_command._draw(tmp_path, drawing, fresh=False)
        assert picture.read_bytes() == whole


def test_what_the_user_put_beside_the_drawings_stays(tmp_path) -> None:
    drawing = demo_command.Drawing(3, num_images=2, size=32)
    demo_command._draw(tmp_path, drawing, fresh=False)
    (tmp_path / "photos" / "notes.txt").write_text("mine")
    before = (tmp_path / "demo.json").stat().st_mtime_ns
    demo_command._draw(tmp_path, drawing, fresh=False)
    assert (tmp_path / "demo.json").stat().st_mtime_ns == before
    (tmp_path / "photos" / "JPEGImages" / f"{TEMPORARY_PREFIX}x").write_text("of a killed writer")
    demo_command._draw(tmp_path, drawing, fresh=True)
    assert (tmp_path / "photos" / "notes.txt").read_text() == "mine"
    assert not list(tmp_path.rglob(f"{TEMPORARY_PREFIX}*"))
