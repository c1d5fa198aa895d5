"""Every preset and baseline on real photos, with several seeds.

    nox -s study [-- FLAGS]
    ASIC_REAL_DATA=DATA python benchmarks/study.py [--seeds 3] [--sets cub-001,dogs] [--ablate] [--work FOLDER]

Photos and weights are those that ASIC_REAL_DATA holds. Results go to `results/study--cpu.json` after every run, in the
place of earlier ones of the same set, variant and seed, and all of them as tables between the markers of
`docs/benchmarks.md` at the end. A work folder that is given is gone on with.

What draws nothing is measured on further photos of each species too: settings are chosen by the mean of all sets.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from asic_cli.__main__ import main as asic
from asic_cli.evaluate import score_folder
from asic_cli.folder import writing
from asic_cli.recipes import PRESETS, Recipe, find_recipe, make_alignment
from asic_flow import atomic
from asic_flow.collection import identity, load_collection
from asic_flow.paper.config import LossWeights
from asic_flow.train import stay_silent

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results" / "study--cpu.json"
PAGE = ROOT / "docs" / "benchmarks.md"
MARKERS = ("<!-- study -->\n", "<!-- end -->")
FURTHER_MARKERS = ("<!-- further -->\n", "<!-- further end -->")
WEIGHTS = Path("weights/vit_tiny_in1k/vit_tiny_patch16_224_state_dict.pth")
PHOTOS_A_SPECIES = 20


@dataclasses.dataclass(frozen=True)
class PhotoSet:
    """Photos below the folder of real data, each cropped to its box.

    Attributes:
        folder: The data set's.
        flags: Of `asic features`.
        species: Of CUB, if it is that.
        skipped: So many of the species' photos, in the order of `images.txt`, come before these.
    """

    folder: str
    flags: tuple[str, ...]
    species: int | None = None
    skipped: int = 0

    @property
    def further(self) -> bool:
        """Whether these are photos after the first ones."""
        return self.skipped > 0


def birds(species: int, skipped: int) -> PhotoSet:
    """Twenty photos of a species."""
    flags = ("--dataset", "cub", "--species", str(species), "--limit", str(PHOTOS_A_SPECIES))
    return PhotoSet("CUB_200_2011", flags, species, skipped)


SETS = {
    **{f"cub-{species:03d}": birds(species, 0) for species in (1, 2, 3, 4)},
    "dogs": PhotoSet("stanford_dogs", ("--dataset", "stanford_dogs")),
    **{
        f"cub-{species:03d} from {skipped + 1}": birds(species, skipped)
        for skipped in (20, 40)
        for species in (1, 2, 3, 4)
    },
}
# The published recipe at full size wants a GPU; `paper-small` stands for it here.
ON_THE_CPU = tuple(preset for preset in PRESETS if preset != "paper")
# Of `asic features`: what each token looks like at five sizes, by two facets.
SCALES = ("--facet", "key,token", "--scales", "224,320,384,448", "--components", "256")
# What needs no network: gradients and colours.
WITHOUT_WEIGHTS = ("--backbone", "gradients")
METHODS = {"box_copy": "copy the box position", "nearest_neighbour": "nearest neighbour", "mls": "moving least squares"}


@dataclasses.dataclass(frozen=True)
class Variant:
    """A recipe under a name, whether it draws anything at random, and further flags of `asic features`."""

    name: str
    recipe: Recipe
    drawn: bool
    flags: tuple[str, ...] = ()


def variants(ablate: bool) -> Iterator[Variant]:
    """The presets, and with `ablate` each with one thing changed."""
    for preset in ON_THE_CPU:
        recipe = find_recipe(preset)
        yield Variant(preset, recipe, recipe.paper is not None)
        if recipe.paper is None:
            yield Variant(f"{preset} with scales", recipe, drawn=False, flags=SCALES)
            yield Variant(f"{preset} without weights", recipe, drawn=False, flags=WITHOUT_WEIGHTS)
        if not ablate:
            continue
        if recipe.paper is None:
            for what, change in (
                ("all matches heard alike", {"unconfirmed": 1.0}),
                ("affine maps only", {"stiffness": 1e4}),
                ("one round", {"rounds": 1}),
                ("no guide", {"guide": 0.0}),
                ("matches not weighted by similarity", {"agreement_power": 0.0}),
            ):
                changed = dataclasses.replace(recipe.alignment, **change)
                yield Variant(f"{preset}: {what}", dataclasses.replace(recipe, alignment=changed), drawn=False)
            continue
        for what, paper_change in (
            ("photos as they are", {"start": "identity"}),
            ("matches not made again", {"rematch_every": 0}),
            ("network of components", {"network": "components"}),
            ("network of coordinates", {"network": "coordinates"}),
            ("canonical network", {"canonical": "network"}),
            ("full-resolution head", {"head": "full"}),
        ):
            paper = dataclasses.replace(recipe.paper, **paper_change)
            yield Variant(f"{preset}: {what}", dataclasses.replace(recipe, paper=paper), drawn=True)
        for entry in dataclasses.fields(LossWeights):
            on = getattr(recipe.paper.weights, entry.name) > 0
            weights = dataclasses.replace(recipe.paper.weights, **{entry.name: 0.0 if on else 1.0})
            paper = dataclasses.replace(recipe.paper, weights=weights)
            name = f"{preset}: {'without' if on else 'with'} {entry.name}"
            yield Variant(name, dataclasses.replace(recipe, paper=paper), drawn=True)


def describe(data: Path, name: str, more: tuple[str, ...], work: Path) -> Path:
    """The collection of a set, made or found made by `asic features` with its flags and more."""
    photos = SETS[name]
    slug = name.replace(" ", "-")
    collection = work / f"{slug}{''.join(more).replace('--', '-').replace(',', '-')}"
    root = data / photos.folder
    if photos.further:
        root = shorten(root, photos, work / f"{slug}-list")
    network = ("--backbone", "vit_tiny_p16", "--weights", str(data / WEIGHTS))
    chosen = more if "--backbone" in more else (*more, *network)
    if asic(["features", str(root), *photos.flags, *chosen, "--device", "cpu", "--out", str(collection)]):
        raise SystemExit(f"asic features failed on {name}")
    return collection


def shorten(root: Path, photos: PhotoSet, folder: Path) -> Path:
    """The data set by links, its list of images without those that a set of photos skips."""
    folder.mkdir(exist_ok=True)
    for entry in root.iterdir():
        if entry.name != "images.txt" and not (folder / entry.name).exists():
            (folder / entry.name).symlink_to(entry.resolve())
    lines = (root / "images.txt").read_text().splitlines(keepends=True)
    of_species = [line for line in lines if line.split()[1].startswith(f"{photos.species:03d}.")]
    skipped = set(of_species[: photos.skipped])
    atomic.write_bytes(folder / "images.txt", "".join(line for line in lines if line not in skipped).encode())
    return folder


def measure(variant: Variant, name: str, collection_folder: Path, seed: int, work: Path) -> dict[str, Any]:
    """Aligns and scores a collection; the seconds are the processor's, of the alignment alone."""
    collection, matches = load_collection(collection_folder)
    folder = work / f"{name}--{variant.name.replace(': ', '--')}--{seed}".replace(" ", "-")
    named = {"collection": {"identity": identity(collection_folder)}}
    with writing(folder, "run"):
        started = time.process_time()
        alignment, beside = make_alignment(
            variant.recipe,
            collection,
            matches,
            folder=folder,
            fresh=False,
            seed=seed,
            device="cpu",
            identity=named,
            progress=stay_silent,
        )
        seconds = time.process_time() - started
        named["collection"]["path"] = os.path.relpath(collection_folder.resolve(), folder.resolve())
        alignment.save(folder, {"seed": seed, **variant.recipe.as_json(), **named}, beside)
    scores = score_folder(folder, seed=0)["methods"]
    return {
        "set": name,
        "variant": variant.name,
        "seed": seed,
        "seconds": round(seconds, 2),
        "methods": {
            method: {
                "pck": found["pck"]["0.10"]["per_point"],
                "cycle2": found["cycle"]["0.10"]["2"]["end"],
                "cycle3": found["cycle"]["0.10"]["3"]["end"],
            }
            for method, found in scores.items()
        },
    }


def table(runs: list[dict[str, Any]], further: bool) -> str:
    """Rows of methods, columns of sets; mean, standard deviation over seeds, then both cycle scores in brackets.

    Of the further sets, a last column has the mean PCK over all sets.
    """
    sets = [name for name in SETS if SETS[name].further == further and any(run["set"] == name for run in runs)]
    if not sets:
        return "Not measured yet.\n"
    heads = [*sets, f"mean of all {len(SETS)}" if further else "seconds"]
    lines = ["| PCK@0.10 (2-cycle, 3-cycle) | " + " | ".join(heads) + " |", "| --- |" + " --- |" * len(heads)]
    measured = {run["variant"] for run in runs if run["set"] in sets}
    known = [variant for variant in variants(ablate=True) if variant.name in measured]
    rows: list[tuple[str | None, str, str]] = [(None, method, text) for method, text in METHODS.items()]
    for variant in known:
        methods = (*(("nearest_neighbour",) if variant.flags else ()), "canonical", "consensus", "combined")
        rows += [(variant.name, method, f"{variant.name}, {METHODS.get(method, method)}") for method in methods]
    for name, method, text in rows:
        # Baselines are those of the first preset, on the default descriptors.
        mine = [run for run in runs if run["variant"] == (name or ON_THE_CPU[0])]
        found = {
            which: [run["methods"][method] for run in mine if run["set"] == which and method in run["methods"]]
            for which in SETS
        }
        if name is not None and not any(found[which] for which in sets):
            continue  # a score that its runs were not asked for
        if further:
            last = _mean(list(found.values()))
        else:
            seconds = [run["seconds"] for run in mine if run["set"] in sets]
            last = "" if name is None else f"{min(seconds):.0f} to {max(seconds):.0f}"
        lines.append(f"| {text} | " + " | ".join([*(_cell(found[which]) for which in sets), last]) + " |")
    return "\n".join(lines) + "\n"


def _mean(of_sets: list[list[dict[str, float]]]) -> str:
    if not all(of_sets):
        return "not measured"
    return f"{100 * statistics.mean(statistics.mean(one['pck'] for one in found) for found in of_sets):.1f}"


def _cell(found: list[dict[str, float]]) -> str:
    if not found:
        return "not measured"
    values = [100 * one["pck"] for one in found]
    spread = f" ± {statistics.stdev(values):.1f}" if len(set(values)) > 1 else ""
    cycles = ", ".join(f"{100 * statistics.mean(one[key] for one in found):.1f}" for key in ("cycle2", "cycle3"))
    return f"{statistics.mean(values):.1f}{spread} ({cycles})"


def keep(run: dict[str, Any], where: str) -> list[dict[str, Any]]:
    """Files a run among those of earlier commands, and returns them all."""
    stored = json.loads(RESULTS.read_text())["runs"] if RESULTS.exists() else []
    name = ("set", "variant", "seed")
    others = [old for old in stored if any(old[key] != run[key] for key in name)]
    RESULTS.parent.mkdir(exist_ok=True)
    atomic.write_bytes(RESULTS, json.dumps({"where": where, "runs": [*others, run]}, indent=1).encode())
    return [*others, run]


def write_page(runs: list[dict[str, Any]], where: str) -> None:
    """Puts the tables between the page's markers."""
    text = PAGE.read_text()
    for (opening, closing), further in ((MARKERS, False), (FURTHER_MARKERS, True)):
        start = text.index(opening) + len(opening)
        end = text.index(closing, start)
        text = f"{text[:start]}{where}\n\n{table(runs, further)}{text[end:]}"
    atomic.write_bytes(PAGE, text.encode())


def study() -> None:
    """Runs what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--variants", help="only these, by name, with commas between")
    parser.add_argument("--ablate", action="store_true")
    parser.add_argument("--work", type=Path)
    asked = parser.parse_args()
    data = os.environ.get("ASIC_REAL_DATA")
    if not data:
        sys.exit("ASIC_REAL_DATA names no folder of real photos and weights: nothing to study here")
    names = asked.sets.split(",")
    if unknown := sorted(set(names) - set(SETS)):
        sys.exit(f"no set called {unknown}; there are {sorted(SETS)}")
    chosen = list(variants(asked.ablate))
    if asked.variants is not None:
        chosen = [variant for variant in chosen if variant.name in asked.variants.split(",")]
    if not chosen:
        sys.exit(f"no variant of that name; there are {[variant.name for variant in variants(ablate=True)]}")
    runs: list[dict[str, Any]] = []
    where = (
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    with tempfile.TemporaryDirectory() as temporary:
        work = asked.work or Path(temporary)
        for name in names:
            for variant in chosen:
                if variant.drawn and SETS[name].further:
                    continue
                collection = describe(Path(data), name, variant.flags, work)
                for seed in range(asked.seeds if variant.drawn else 1):
                    runs = keep(measure(variant, name, collection, seed, work), where)
    write_page(runs, f"Made by `nox -s study` on {where}.")


if __name__ == "__main__":
    study()
