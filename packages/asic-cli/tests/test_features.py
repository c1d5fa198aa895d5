from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

INDEX = "collection.json"


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch, _no_settings_from_outside: None) -> None:
    monkeypatch.setenv("ASIC_SIZE", "96")
    monkeypatch.setenv("ASIC_STRIDE", "8")


def tree(folder: Path) -> dict[str, str]:
    """The content of every file, but for locks."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".asic.lock"
    }


@pytest.fixture
def copied(collection: Path, tmp_path: Path) -> Path:
    """A collection that a test may change."""
    return Path(shutil.copytree(collection, tmp_path / "copied"))


def test_the_same_command_again_finds_all_done(asic, photos, copied) -> None:
    before = tree(copied)
    result = asic("features", photos, "--out", copied, "--json")
    assert (result.code, result.json["reused"]) == (0, True)
    assert "already done" in result.err
    assert result.json["photos"] == [f"{index}.png" for index in range(5)]
    assert tree(copied) == before


def test_a_renamed_folder_of_photos_is_not_described_again(asic, photos, copied, tmp_path) -> None:
    moved = shutil.copytree(photos, tmp_path / "moved")
    os.utime(moved / "0.png")
    assert asic("features", moved, "--out", copied, "--json").json["reused"]


def test_other_settings_stop_with_their_differences(asic, photos, copied) -> None:
    before = tree(copied)
    result = asic("features", photos, "--out", copied, "--stride", 6, "--masks", "none")
    assert result.code == 2
    assert "stride: 8 in the folder, now 6" in result.err
    assert "masks: 'cosegment' in the folder, now 'none'" in result.err
    assert "--fresh" in result.err
    assert "size" not in result.err
    assert tree(copied) == before


def test_fresh_makes_it_again_with_the_new_ones(asic, photos, copied) -> None:
    result = asic("features", photos, "--out", copied, "--stride", 12, "--fresh", "--json")
    assert (result.code, result.json["reused"]) == (0, False)
    assert json.loads((copied / INDEX).read_text())["settings"]["stride"] == 12


def test_other_photos_stop_with_their_differences(asic, photos, copied, tmp_path) -> None:
    changed = shutil.copytree(photos, tmp_path / "photos")
    (changed / "0.png").rename(changed / "zero.png")
    Image.fromarray(255 - np.asarray(Image.open(changed / "1.png"))).save(changed / "1.png")
    result = asic("features", changed, "--out", copied)
    assert result.code == 2
    assert "photo 0.png: in the folder, now gone" in result.err
    assert "photo zero.png: not in the folder, now there" in result.err
    assert "photo 1.png: other pixels" in result.err


@pytest.mark.parametrize("name", ["descriptors.safetensors", "masks/002-2.png", INDEX])
def test_a_damaged_file_is_noticed_and_made_again(asic, photos, copied, collection, name) -> None:
    data = bytearray((copied / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copied / name).write_bytes(bytes(data) if name != INDEX else bytes(data[:-5]))
    result = asic("features", photos, "--out", copied, "--json")
    assert (result.code, result.json["reused"]) == (0, False)
    assert "making it again" in result.err
    assert tree(copied) == tree(collection)


def test_leftovers_of_a_killed_writer_are_swept(asic, photos, copied, collection) -> None:
    (copied / INDEX).unlink()
    (copied / ".asic-tmp-left").write_bytes(b"half")
    (copied / "images" / ".asic-tmp-left").write_bytes(b"half")
    assert asic("features", photos, "--out", copied).code == 0
    assert tree(copied) == tree(collection)


def test_no_photo_and_one_photo(asic, photos, tmp_path) -> None:
    (tmp_path / "none").mkdir()
    result = asic("features", "none")
    assert (result.code, "no photo was found" in result.err) == (2, True)
    shutil.copy(photos / "0.png", tmp_path / "none")
    result = asic("features", "none")
    assert (result.code, "only one photo, 0.png" in result.err) == (2, True)
    result = asic("features", "nowhere")
    assert (result.code, "nowhere: this folder does not exist" in result.err) == (2, True)
    assert not (tmp_path / "asic-out").exists()


def test_all_unreadable_photos_are_listed_and_may_be_left_out(asic, photos, tmp_path) -> None:
    mixed = shutil.copytree(photos, tmp_path / "mixed")
    (mixed / "bad one.jpg").write_text("<html>not found</html>")
    (mixed / "bad two.png").write_bytes((photos / "0.png").read_bytes()[:300])
    result = asic("features", mixed, "--out", "out")
    assert result.code == 2
    assert "bad one.jpg: is a web page" in result.err
    assert "bad two.png: cannot be decoded" in result.err
    for reused in (False, True):
        result = asic("features", mixed, "--out", "out", "--skip-bad", "--json")
        assert (result.code, result.json["reused"]) == (4, reused)
        assert result.json["skipped"] == ["bad one.jpg", "bad two.png"]
        assert len(result.json["photos"]) == 5


def test_no_foreground(asic, photos, tmp_path) -> None:
    for path in photos.iterdir():
        (tmp_path / "black").mkdir(exist_ok=True)
        Image.new("L", (120, 120)).save(tmp_path / "black" / path.name)
    result = asic("features", photos, "--masks", "black")
    assert (result.code, "no foreground" in result.err) == (2, True)


def test_masks_of_ones_own_count_by_content(asic, photos, tmp_path) -> None:
    (tmp_path / "white").mkdir()
    for path in photos.iterdir():
        Image.new("L", (120, 120), 255).save(tmp_path / "white" / path.name)
    command = ("features", photos, "--out", "out", "--json", "--masks")
    assert asic(*command, "white").json["foreground"] == 1.0
    shutil.copytree(tmp_path / "white", tmp_path / "copy")
    assert asic(*command, "copy").json["reused"]
    Image.new("L", (120, 120), 0).save(tmp_path / "white" / "0.png")
    result = asic(*command, "white")
    assert (result.code, "masks_sha256" in result.err) == (2, True)


def test_missing_weights_are_told_in_two_seconds_before_torch(photos, tmp_path, processor_seconds) -> None:
    script = (
        "import sys\n"
        "from asic_cli.__main__ import main\n"
        f"code = main(['features', {str(photos)!r}, '--backbone', 'dino_vits8'])\n"
        "assert not {'torch', 'timm'} & set(sys.modules)\n"
        "sys.exit(code)\n"
    )
    environment = os.environ | {"HF_HUB_CACHE": str(tmp_path)}
    runs = [processor_seconds("-c", script, cwd=tmp_path, env=environment) for _ in range(2)]
    assert min(seconds for _, seconds in runs) < 2
    done = runs[0][0]
    assert done.returncode == 3, done.stderr
    for part in ("vit_small_patch8_224.dino", "asic weights fetch dino_vits8", "--backbone gradients"):
        assert part in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "settings"),
    [
        (("--log-bin",), {"log_bin": True}),
        (("--least-support", 1), {"least_support": 1}),
        (("--suppress-px", 9.5), {"suppress_px": 9.5}),
        (("--neighbours", 3), {"neighbours": 3}),
        (("--candidates", "all"), {"candidates": "all"}),
        (("--mirror-test",), {"mirror_test": True}),
        (("--parts", 2, "--part-stages", 3), {"parts": 2, "part_stages": 3}),
    ],
)
def test_options_reach_the_collection(asic, photos, collection, arguments, settings) -> None:
    result = asic("features", photos, "--out", "x", "--json", *arguments)
    assert result.code == 0, result.err
    kept = json.loads(Path("x", INDEX).read_text())["settings"]
    assert {name: kept[name] for name in settings} == settings
    assert asic("features", photos, "--out", "x", "--json", *arguments).json["reused"]
    plain = json.loads((collection / INDEX).read_text())
    assert {name: plain["settings"][name] for name in settings} != settings
    result = asic("features", photos, "--out", "x")
    assert result.code == 2
    assert all(f"{name}: " in result.err for name in settings)
    assert bool(list(Path("x").glob("parts/*.png"))) is ("parts" in settings)


def test_a_networks_options_reach_the_collection(asic, photos, network) -> None:
    command = ("features", photos, *network, "--out", "x", "--json", "--masks", "none")
    several = ("--block", "3,8", "--facet", "key, token", "--components", 7, "--scales", "64,128")
    result = asic(*command, *several)
    assert result.code == 0, result.err
    kept = json.loads(Path("x", INDEX).read_text())["settings"]
    assert (kept["block"], kept["facet"], kept["components"]) == ([3, 8], ["key", "token"], 7)
    assert kept["scales"] == [64, 128]
    assert asic(*command, *several).json["reused"]
    printed = asic(*command, *several, "--print-config").out
    assert 'block = "3,8"' in printed
    Path("x.toml").write_text(printed)
    assert asic("features", photos, "--config", "x.toml", "--json").json["reused"]
    result = asic(*command, "--fresh", "--components", 193)
    assert (result.code, "components: expected at most the 192 values" in result.err) == (2, True)


def test_missing_weights_are_fetched_where_asked(asic, photos, network, tmp_path, monkeypatch) -> None:
    import huggingface_hub

    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    fetched = []

    def download(repo_id: str, **_: object) -> str:
        fetched.append(repo_id)
        content = Path(network[3]).read_bytes()
        blob = tmp_path / "blobs" / hashlib.sha256(content).hexdigest()
        folder = tmp_path / "hub" / f"models--{repo_id.replace('/', '--')}" / "snapshots" / "abc"
        for path in (blob.parent, folder):
            path.mkdir(parents=True)
        blob.write_bytes(content)
        (folder / "model.safetensors").symlink_to(blob)
        return str(folder / "model.safetensors")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    command = ("features", photos, "--backbone", "vit_tiny_p16", "--masks", "none", "--size", 96, "--download")
    for _ in range(2):
        result = asic(*command)
        assert result.code == 0, result.err
    assert fetched == ["timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k"]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    result = asic("features", photos, "--masks", "isnet", "--download")
    assert (result.code, "cannot fetch isnet: HF_HUB_OFFLINE is set" in result.err) == (3, True)


def test_a_shard_says_what_is_next(asic, photos, network, tmp_path) -> None:
    command = ("features", photos, *network, "--masks", "none", "--out", "x", "--json")
    result = asic(*command, "--shard", "2/2")
    assert result.json == {"collection": "x", "shard": "2/2", "described": 2, "matched": None, "skipped": []}
    assert "give the same command again to share out the matching" in result.err
    result = asic(*command, "--shard", "2/2")
    assert result.json == {"collection": "x", "shard": "2/2", "described": 2, "matched": 4, "skipped": []}
    assert "give the same command without --shard" in result.err
    result = asic("features", photos, "--out", "without-weights", "--shard", "1/2", "--json")
    assert (result.json["described"], result.json["matched"]) == (3, 6)
    assert asic(*command).code == 0
    result = asic(*command, "--shard", "2/2")
    assert (result.json["described"], result.json["matched"]) == (0, 0)
    assert "nothing is left to share out" in result.err
    assert not Path("x/described").exists()
    result = asic(*command, "--shard", "2/2", "--stride", 6)
    assert (result.code, "stride: 8 in the folder, now 6" in result.err) == (2, True)
    assert asic(*command, "--out", "z", "--shard", "1/2", "--components", 999).code == 2
    mixed = shutil.copytree(photos, tmp_path / "mixed")
    (mixed / "0.png").write_bytes(b"")
    command = ("features", mixed, *network, "--masks", "none", "--out", "y", "--shard", "1/2", "--json")
    assert asic(*command).code == 2
    result = asic(*command, "--skip-bad")
    assert (result.code, result.json["described"], len(result.json["skipped"])) == (4, 2, 1)
    (tmp_path / "file").write_text("")
    assert asic("features", photos, *network, "--out", "file/below", "--shard", "1/2").code == 3
    assert asic("features", photos, *network, "--out", photos, "--shard", "1/2").code == 2


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--shard", "3/2"), 2, "--shard: expected I/N with I from 1 to N"),
        (("--shard", "0/2"), 2, "--shard: expected I/N"),
        (("--shard", "half"), 2, "--shard: expected I/N"),
        (("--workers", "0"), 2, "workers: expected at least 1"),
        (("--batch", "0"), 2, "batch: expected at least 1"),
        (("--backbone", "dino_vits8", "--block", "8;9"), 2, "block: expected whole numbers with commas between"),
        (("--backbone", "dino_vits8", "--block", "8,8"), 2, "block: expected one or more, each once"),
        (("--backbone", "dino_vits8", "--facet", "keys"), 2, "facet: expected one of key, query"),
        (("--components", "8"), 2, "components are of a network's descriptors"),
        (("--parts", "0"), 2, "parts: expected 1 to 255"),
        (("--part-stages", "4"), 2, "part_stages: expected 2 or 3"),
        (("--suppress-px", "-1"), 2, "suppress_px: expected 0 or more"),
        (("--least-support", "-1"), 2, "least_support: expected 0 or more"),
        (("--neighbours", "0"), 2, "neighbours: expected at least 1"),
        (("--top-k", "0"), 2, "top_k: expected at least 1"),
        (("--device", "gpu"), 2, "--device: expected auto, cpu, cuda"),
        (("--device", "cuda:99"), 3, "--device cuda:99"),
        (("--size", "7"), 2, "size: expected 32 to 4096"),
        (("--backbone", "gradients", "--block", "3"), 2, "drop them"),
        (("--scales", "64,128"), 2, "scales are of a network's descriptors; 'gradients' is none"),
        (("--scales", "64,big"), 2, "scales: expected"),
        (("--scales", "64,64"), 2, "scales: expected sides other than the size of 96, each once"),
        (("--backbone", "dino vits8"), 2, "did you mean dino_vits8"),
        (("--backbone", "dino_vits8", "--weights", "none.safetensors"), 3, "none.safetensors does not exist"),
        (("--weights", "none.safetensors"), 2, "has no weights: drop one"),
        (("--masks", "nowhere"), 2, "masks folder nowhere does not exist"),
        (("--masks", "box"), 2, "0.png: has no box to take as its mask"),
        (("--masks", "isnet"), 3, "Fetch them with `asic weights fetch isnet`"),
        (("--masks", "isnet", "--mask-weights", "gone.onnx"), 3, "gone.onnx does not exist"),
        (("--mask-weights", "gone.onnx"), 2, "mask_weights: expected masks isnet or birefnet with them"),
        (("--masks", "none", "--grabcut"), 2, "grabcut: expected masks cosegment or saliency with it"),
        (("--precision", "float8"), 2, "'float32', 'bfloat16', 'float16'"),
        (("--species", "1"), 2, "--species does not go with a folder of photos"),
        (("--dataset", "cub"), 2, "expected --species"),
        (("--dataset", "cub", "--species", "1"), 2, "classes.txt: file: expected a readable file"),
        (("--dataset", "spair"), 2, "expected --category"),
        (("--dataset", "spair", "--category", "cat", "--split", "dev"), 2, "expected a --split of trn, val, test"),
        (("--dataset", "spair", "--category", "cat"), 2, "PairAnnotation/test: folder: expected pair annotations"),
        (("--dataset", "stanford_dogs", "--split", "test"), 2, "--split does not go with --dataset stanford_dogs"),
        (("--limit", "1"), 2, "--limit"),
        (("--fit", "squash"), 2, "'pad', 'crop', 'stretch'"),
    ],
)
def test_usage_is_checked(asic, photos, arguments, code, message) -> None:
    result = asic("features", photos, *arguments)
    assert result.code == code, result.err
    assert message in result.err


def test_nobody_elses_files_are_written_over(asic, photos, collection, run, tmp_path) -> None:
    mine = tmp_path / "mine" / "images"
    mine.mkdir(parents=True)
    (mine / "holiday.png").write_bytes(b"precious")
    result = asic("features", photos, "--out", "mine", "--fresh")
    assert (result.code, "is not empty and holds no collection.json" in result.err) == (2, True)
    assert (mine / "holiday.png").read_bytes() == b"precious"
    result = asic("features", photos, "--out", run)
    assert (result.code, "holds a run" in result.err) == (2, True)
    result = asic("train", collection, "--out", collection)
    assert (result.code, "holds a collection" in result.err) == (2, True)
    (tmp_path / "file").write_text("")
    result = asic("features", photos, "--out", "file")
    assert (result.code, "is a file, expected a folder" in result.err) == (2, True)
    assert asic("features", photos, "--out", "file/below").code == 3


def test_what_was_written_among_the_photos_is_no_photo(asic, photos, tmp_path, monkeypatch) -> None:
    here = shutil.copytree(photos, tmp_path / "here")
    monkeypatch.chdir(here)
    for reused in (False, True):
        result = asic("features", ".", "--json")
        assert (len(result.json["photos"]), result.json["reused"]) == (5, reused)
        assert result.json["collection"] == "asic-out/here"


def test_hostile_names(asic, draw, tmp_path) -> None:
    names = ["cat[/a].png", "line\nbreak.png", "\x1b[2J.png", "<script>alert(1)</script.png", "🐦/a.png", "b/a.png"]
    draw(tmp_path / "odd", names)
    (tmp_path / "odd" / "bad[red]\x1b.png").write_bytes(b"")
    result = asic("features", "odd", "--out", "[bold]out", "--skip-bad", "--json")
    assert result.code == 4, result.err
    assert sorted(result.json["photos"]) == sorted(names)
    assert "\x1b" not in result.out + result.err
    assert "bad[red]\\x1b.png: is empty" in result.err
    assert asic("train", "[bold]out", "--json").code == 0
    result = asic("eval", "[bold]out-run", "--json")
    assert (result.code, "\x1b" in result.out + result.err) == (0, False)
    assert "<script>alert(1)" not in (tmp_path / "[bold]out-run" / "report.html").read_text()


def test_a_folder_in_use_is_left_alone(asic, photos, copied) -> None:
    from filelock import FileLock

    with FileLock(copied / ".asic.lock"):
        result = asic("features", photos, "--out", copied)
    assert (result.code, "another asic process" in result.err) == (3, True)


def test_the_first_photos_by_name(asic, photos) -> None:
    result = asic("features", photos, "--limit", 2, "--json")
    assert result.json["photos"] == ["0.png", "1.png"]
