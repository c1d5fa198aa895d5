"""What the literature's own photos and trained weights give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch.nn import functional

from asic_eval import mask_iou
from asic_eval.benchmarks.coco import read_stanford_dogs, read_stanford_dogs_masks
from asic_eval.benchmarks.cub import read_cub
from asic_features.config import FeatureConfig
from asic_features.extract import extract_collection
from asic_features.images import PhotoSource, fit_photo, list_photos, read_photo, render, render_mask
from asic_flow.collection import ImageCollection

pytestmark = pytest.mark.real_data
WEIGHTS = "weights/vit_tiny_in1k/vit_tiny_patch16_224_state_dict.pth"


def nearest_neighbour_pck(
    collection: ImageCollection, points_px: npt.NDArray[np.float64], visible: npt.NDArray[np.bool_]
) -> float:
    """Per point, within a tenth of the side, each keypoint to its most similar of all tokens."""
    grid = collection.grid
    maps = collection.descriptors.float().view(len(points_px), grid.rows, grid.cols, -1)
    where = torch.from_numpy((points_px - grid.first) / grid.stride / (grid.cols - 1) * 2 - 1).float()
    asked = functional.grid_sample(maps.permute(0, 3, 1, 2), where[:, None], align_corners=True, padding_mode="border")[
        :, :, 0
    ].transpose(1, 2)
    asked = functional.normalize(asked, dim=-1)
    centres = grid.centres_px()
    hits = total = 0
    for source in range(len(points_px)):
        for target in range(len(points_px)):
            both = visible[source] & visible[target]
            if source == target:
                continue
            best = (asked[source] @ collection.descriptors[target].float().T).argmax(dim=1).numpy()
            distance = np.linalg.norm(centres[best] - points_px[target], axis=-1)
            hits += int((distance[both] <= 0.1 * collection.images.shape[1]).sum())
            total += int(both.sum())
    return 100 * hits / total


@pytest.mark.parametrize(("species", "expected"), [("001", 66.1), ("002", 58.1)])
def test_published_nearest_neighbour_recipe(real_data: Path, species: str, expected: float) -> None:
    benchmark = read_cub(real_data / "CUB_200_2011", int(species), limit=20)
    images = real_data / "CUB_200_2011" / "images"
    sources = [PhotoSource(images / k.name, k.name, k.box_xyxy, size_hw=k.size_hw) for k in benchmark.images]
    config = FeatureConfig(backbone="vit_tiny_p16", weights=real_data / WEIGHTS)
    collection, _ = extract_collection(sources, config)
    points = np.stack([p.to_model(k.points_image) for p, k in zip(collection.photos, benchmark.images, strict=True)])
    visible = np.stack([k.visible for k in benchmark.images])
    assert nearest_neighbour_pck(collection, np.nan_to_num(points), visible) == pytest.approx(expected, abs=1)


def test_check_photos_classify_through_our_reader(real_data: Path) -> None:
    import timm
    from timm.data import ImageNetInfo

    synsets = ImageNetInfo().label_names()
    model = timm.create_model("vit_tiny_patch16_224", pretrained=False)
    model.load_state_dict(torch.load(real_data / WEIGHTS, weights_only=True))
    model.eval()
    right = 0
    sources = list_photos(real_data / "weights/vit_tiny_in1k/check_images")
    for source in sources:
        photo = read_photo(source.path)
        shown = render(photo, fit_photo(photo.shape[:2], 224, "crop"))
        with torch.inference_mode():
            scores = model(torch.from_numpy(shown).permute(2, 0, 1)[None].float() / 255 * 2 - 1)
        right += synsets[int(scores.argmax())] == source.path.name.partition("_")[0]
    assert len(sources) == 17
    assert right >= 14


@pytest.mark.parametrize(("by_boxes", "least"), [(True, 0.80), (False, 0.75)])
def test_cosegmentation_finds_the_dogs(real_data: Path, by_boxes: bool, least: float) -> None:
    root = real_data / "stanford_dogs"
    dogs, masks = read_stanford_dogs(root), dict(read_stanford_dogs_masks(root))
    sources, truth = [], []
    for dog in dogs.images:
        box = dog.box_xyxy if by_boxes else None
        sources.append(PhotoSource(root / "images" / dog.name, dog.name, box, size_hw=dog.size_hw))
        mask = masks[dog.name].astype(np.uint8) * 255
        truth.append(render_mask(mask, fit_photo(dog.size_hw, 256, box_xyxy=box)))
    config = FeatureConfig(backbone="vit_tiny_p16", weights=real_data / WEIGHTS)
    collection, _ = extract_collection(sources, config)
    overlap = mask_iou(collection.foreground().numpy(), np.stack(truth) >= 128)
    assert overlap.per_image() >= least
