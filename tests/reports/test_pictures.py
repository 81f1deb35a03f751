import dataclasses
import itertools
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from covidmm.errors import DataError
from covidmm.findings import STUDY_CLASSES, Detections
from covidmm.radiograph import read
from covidmm.reports.drawing import FOUND, MEMBERS, TRUTH
from covidmm.reports.drawn_images import choose, drawn_images
from covidmm.reports.pictures import draw_image, draw_sheet, draw_show_dir


def rgb(colour):
    return tuple(int(colour[k : k + 2], 16) for k in (1, 3, 5))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A prepared folder of six grey images of different shapes, one of them black, one white."""
    root = tmp_path_factory.mktemp("prepared")
    (root / "annotations").mkdir()
    truth = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "opacity"}]}
    for number, (width, height) in enumerate([(200, 160), (160, 200), (200, 200), (64, 512), (512, 64), (30, 30)], 1):
        path = root / "images" / f"study{number}" / f"image{number}.png"
        path.parent.mkdir(parents=True)
        Image.new("L", (width, height), [0, 255, 128][number % 3]).save(path)
        truth["images"].append(
            {
                "id": number,
                "file_name": str(path.relative_to(root / "images")),
                "width": width,
                "height": height,
                "image_id": f"image{number}",
                "study_class": STUDY_CLASSES[number % 4],
            }
        )
        box = [width * 0.2, height * 0.2, width * 0.4, height * 0.5]
        truth["annotations"].append({"id": number, "image_id": number, "category_id": 1, "bbox": box})
    (root / "annotations" / "test.json").write_text(json.dumps(truth))
    return root


@pytest.fixture(scope="module")
def predictions(prepared):
    """One hit and, beyond the image's edge, one false alarm per image."""
    truth = json.loads((prepared / "annotations" / "test.json").read_text())
    sizes = {image["id"]: (image["width"], image["height"]) for image in truth["images"]}
    found = []
    for annotation in truth["annotations"]:
        image, (x, y, width, height) = annotation["image_id"], annotation["bbox"]
        found.append({"image_id": image, "category_id": 1, "bbox": [x, y, width * 0.8, height], "score": 0.9})
        outside = [sizes[image][0] * 0.8, -20, 400, sizes[image][1] * 0.3]
        found.append({"image_id": image, "category_id": 1, "bbox": outside, "score": 0.4})
    return found


def one(prepared, predictions, number, threshold=0.3):
    cases = read_cases(prepared / "images", prepared / "annotations" / "test.json", predictions, threshold)
    return cases[number - 1]


def count(path, colour):
    return int((np.asarray(Image.open(path)) == rgb(colour)).all(-1).sum())


def test_boxes_are_where_they_belong(prepared, tmp_path):
    draw_case(one(prepared, [], 3), tmp_path / "case.png", size=400)
    pixels = np.asarray(Image.open(tmp_path / "case.png"))
    left = (pixels.shape[1] - 400) // 2
    rows, columns = np.nonzero((pixels[:400, left : left + 400] == rgb(TRUTH)).all(-1))
    # image 3 is 200 x 200, its box 40 40 120 140; an outline is at most 2 pixels thick to either side
    np.testing.assert_allclose([columns.min(), rows.min(), columns.max(), rows.max()], [80, 80, 240, 280], atol=2)
    assert not (pixels[100:260, left + 100 : left + 220] == rgb(TRUTH)).all(-1).any()


def test_a_box_ends_where_its_radiograph_does(prepared, tmp_path):
    """On a sheet too, where a tall radiograph has black bars beside it."""
    case = one(prepared, [], 4)
    huge = type(case)(case.path, case.image, np.array([[-50.0, -50, 900, 900]]), case.boxes, case.scores, case.hits)
    draw_sheet([huge], tmp_path / "sheet.png", "title", tile=256)
    tile = np.asarray(Image.open(tmp_path / "sheet.png"))[100:356, 28:284]
    rows, columns = np.nonzero((tile == rgb(TRUTH)).all(-1))
    # 64 x 512 becomes 32 x 256 in the middle of 256 x 256
    np.testing.assert_allclose([columns.min(), rows.min(), columns.max(), rows.max()], [112, 0, 143, 255], atol=2)
    assert (tile[:, :100] == 0).all()
    assert (tile[:, -100:] == 0).all()


@pytest.mark.parametrize("number", range(1, 7))
def test_predictions_below_the_threshold_are_not_drawn(prepared, predictions, tmp_path, number):
    counts = []
    for threshold in (0.3, 0.5, 0.95):
        draw_case(one(prepared, predictions, number, threshold), tmp_path / "case.png")
        counts.append(count(tmp_path / "case.png", PREDICTION))
    # the legend's own orange stays
    assert counts[0] > counts[1] > counts[2] > 0


def test_a_false_alarm_is_dashed(prepared, tmp_path):
    box = [20, 20, 100, 100]
    for name, truth in (("hit", box), ("false", [150, 150, 20, 20])):
        case = one(prepared, [{"image_id": 3, "category_id": 1, "bbox": box, "score": 0.9}], 3)
        x, y, width, height = truth
        corners = np.array([[x, y, x + width, y + height]], float)
        hits = np.array([name == "hit"])
        draw_case(type(case)(case.path, case.image, corners, case.boxes, case.scores, hits), tmp_path / f"{name}.png")
    assert count(tmp_path / "false.png", PREDICTION) < 0.8 * count(tmp_path / "hit.png", PREDICTION)


@pytest.mark.parametrize(("count_", "columns", "rows", "across"), [(6, 4, 2, 4), (4, 2, 2, 2), (1, 4, 1, 1)])
def test_sheet_has_a_square_per_image(prepared, predictions, tmp_path, count_, columns, rows, across):
    cases = choose(read_cases(prepared / "images", prepared / "annotations" / "test.json", predictions, 0.3), count_)
    sizes = []
    for tile in (200, 300):
        draw_sheet(cases, tmp_path / "sheet.png", "title", columns, tile)
        sizes.append(Image.open(tmp_path / "sheet.png").size)
    assert sizes[1][1] - sizes[0][1] == rows * 100
    assert sizes[1][0] >= across * 300


def test_the_same_grid_every_time(prepared, predictions, tmp_path):
    out, truth = tmp_path / "new" / "grid.png", prepared / "annotations" / "test.json"
    arguments = (prepared / "images", truth, predictions, out, 0.3)
    draw_grid(*arguments, title="first", count=4)
    first = out.read_bytes()
    draw_grid(*arguments, title="first", count=4)
    assert out.read_bytes() == first
    assert [path.name for path in out.parent.iterdir()] == ["grid.png"]
    for change in ({"title": "second"}, {"seed": 1}, {"order": "best"}, {"columns": 2}, {"count": 3}):
        draw_grid(*arguments, **{"title": "first", "count": 4, **change})
        assert out.read_bytes() != first, change


def test_a_long_title_stays_on_the_page(prepared, predictions, tmp_path):
    draw_sheet([one(prepared, predictions, 1)], tmp_path / "sheet.png", "W" * 500)
    pixels = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert (pixels[:, -20:] == pixels[0, 0]).all()


def test_show_dir_has_every_image_and_the_grid(prepared, predictions, tmp_path):
    (tmp_path / "predictions.json").write_text(json.dumps(predictions))
    dataset = {"data_root": str(prepared), "ann_file": "annotations/test.json"}
    draw_show_dir(tmp_path / "show", dataset, tmp_path / "predictions.json", 0.3, "frcnn")
    names = sorted(path.name for path in (tmp_path / "show").iterdir())
    assert names == ["grid.png", *(f"image{number}.png" for number in range(1, 7))]


def test_images_of_one_name_do_not_replace_each_other(prepared, tmp_path):
    truth = json.loads((prepared / "annotations" / "test.json").read_text())
    truth["images"][1] = {**truth["images"][0], "id": 2}
    (prepared / "annotations" / "twice.json").write_text(json.dumps(truth))
    (tmp_path / "predictions.json").write_text("[]")
    dataset = {"data_root": str(prepared), "ann_file": "annotations/twice.json"}
    draw_show_dir(tmp_path / "show", dataset, tmp_path / "predictions.json", 0.3, "frcnn")
    assert {"image1_1.png", "image1_2.png", "image3.png"} < {path.name for path in (tmp_path / "show").iterdir()}


def test_nothing_to_draw(tmp_path):
    with pytest.raises(DataError, match=r"grid.png: no image to draw"):
        draw_sheet([], tmp_path / "grid.png", "title")


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "text"])
def test_a_bad_image_is_named_and_no_half_sheet_left(prepared, tmp_path, damage):
    good = one(prepared, [], 1)
    path = tmp_path / "image.png"
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    content = {"empty": b"", "truncated": path.read_bytes()[:900], "text": b"not a picture"}.get(damage)
    path.unlink() if content is None else path.write_bytes(content)
    bad = type(good)(path, good.image, good.truth, good.boxes, good.scores, good.hits)
    with pytest.raises(DataError, match=r"image.png: (no such image|cannot be read)"):
        draw_sheet([good, bad], tmp_path / "grid.png", "title")
    assert not list(tmp_path.glob("grid*"))


def test_no_space_leaves_the_old_picture(prepared, tmp_path, monkeypatch):
    out = tmp_path / "case.png"
    out.write_bytes(b"old")

    def full(self, data):
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        draw_case(one(prepared, [], 1), out)
    assert out.read_bytes() == b"old"


# Machado, Oliveira and Fernandes (2009), severity 1.0
COLOUR_VISION = {
    "full": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


@pytest.mark.parametrize("vision", COLOUR_VISION)
def test_truth_and_prediction_differ_for_every_colour_vision(vision):
    def seen(colour):
        values = np.array(rgb(colour)) / 255
        linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
        linear = (np.array(COLOUR_VISION[vision]) @ linear).clip(0, 1)
        encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
        return cv2.cvtColor(encoded.astype(np.float32).reshape(1, 1, 3), cv2.COLOR_RGB2LAB)[0, 0]

    # CIE76; about 2 can just be told apart
    assert np.linalg.norm(seen(TRUTH) - seen(PREDICTION)) > 40
    for one, other in itertools.combinations((TRUTH, PREDICTION, *MEMBERS), 2):
        assert np.linalg.norm(seen(one) - seen(other)) > 29, (one, other)


def test_members_of_an_ensemble_have_their_own_colours(prepared, predictions, tmp_path):
    case = one(prepared, predictions, 2)
    members = {"frcnn": np.array([[20.0, 20, 60, 60]]), "yolo": np.array([[70.0, 20, 110, 60]])}
    draw_case(dataclasses.replace(case, members=members), tmp_path / "case.png")
    draw_case(case, tmp_path / "alone.png")
    for colour in MEMBERS[:2]:
        assert count(tmp_path / "case.png", colour) > 300
        assert count(tmp_path / "alone.png", colour) == 0
    assert count(tmp_path / "case.png", MEMBERS[2]) == 0
