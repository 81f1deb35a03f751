import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from covidmm.datasets.annotated_image import TrueBoxes
from covidmm.errors import DataError, RadiographError
from covidmm.findings import STUDY_CLASSES, Detections
from covidmm.radiograph import read
from covidmm.reports.drawn_images import choose, drawn_images
from covidmm.reports.looks import FOUND, MEMBERS, TRUTH
from covidmm.reports.pictures import draw_image, draw_sheet, draw_show_dir, picture_of


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
        truth["annotations"].append({"id": number, "image_id": number, "category_id": 1, "bbox": box, "area": 1})
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


@pytest.fixture
def drawn(prepared, tmp_path):
    """Joins the images with predictions."""

    def join(predictions, threshold=0.3):
        path = tmp_path / "predictions.json"
        path.write_text(json.dumps(predictions))
        return drawn_images(files_of(prepared), prepared / "annotations" / "test.json", path, threshold)

    return join


def files_of(prepared):
    return {number: prepared / "images" / f"study{number}" / f"image{number}.png" for number in range(1, 7)}


def count(path, colour):
    return int((np.asarray(Image.open(path)) == rgb(colour)).all(-1).sum())


def test_boxes_are_where_they_belong(drawn, tmp_path):
    draw_image(drawn([])[3], tmp_path / "image.png", size=400)
    pixels = np.asarray(Image.open(tmp_path / "image.png"))
    left = (pixels.shape[1] - 400) // 2
    rows, columns = np.nonzero((pixels[:400, left : left + 400] == rgb(TRUTH.colour)).all(-1))
    # image 3 is 200 x 200, its box 40 40 120 140; an outline is at most 2 pixels thick to either side
    np.testing.assert_allclose([columns.min(), rows.min(), columns.max(), rows.max()], [80, 80, 240, 280], atol=2)
    assert not (pixels[100:260, left + 100 : left + 220] == rgb(TRUTH.colour)).all(-1).any()


def test_a_box_ends_where_its_radiograph_does(drawn, tmp_path):
    """On a sheet too, where a tall radiograph has black bars beside it."""
    huge = dataclasses.replace(drawn([])[4], truth=TrueBoxes(np.array([[-50.0, -50, 900, 900]])), hits=None)
    draw_sheet([huge], tmp_path / "sheet.png", "title", tile=256)
    tile = np.asarray(Image.open(tmp_path / "sheet.png"))[100:356, 28:284]
    rows, columns = np.nonzero((tile == rgb(TRUTH.colour)).all(-1))
    # 64 x 512 becomes 32 x 256 in the middle of 256 x 256
    np.testing.assert_allclose([columns.min(), rows.min(), columns.max(), rows.max()], [112, 0, 143, 255], atol=2)
    assert (tile[:, :100] == 0).all()
    assert (tile[:, -100:] == 0).all()


@pytest.mark.parametrize("number", range(1, 7))
def test_predictions_below_the_threshold_are_not_drawn(drawn, predictions, tmp_path, number):
    counts = []
    for threshold in (0.3, 0.5, 0.95):
        draw_image(drawn(predictions, threshold)[number], tmp_path / "image.png")
        counts.append(count(tmp_path / "image.png", FOUND.colour))
    # the legend's own orange stays
    assert counts[0] > counts[1] > counts[2] > 0


@pytest.mark.parametrize(("count_", "columns", "rows", "across"), [(6, 4, 2, 4), (4, 2, 2, 2), (1, 4, 1, 1)])
def test_sheet_has_a_square_per_image(drawn, predictions, tmp_path, count_, columns, rows, across):
    images = choose(list(drawn(predictions).values()), count_)
    sizes = []
    for tile in (200, 300):
        draw_sheet(images, tmp_path / "sheet.png", "title", columns, tile)
        sizes.append(Image.open(tmp_path / "sheet.png").size)
    assert sizes[1][1] - sizes[0][1] == rows * 100
    assert sizes[1][0] >= across * 300


def test_the_same_sheet_every_time(drawn, predictions, tmp_path):
    out, images = tmp_path / "new" / "grid.png", list(drawn(predictions).values())
    draw_sheet(images[:4], out, "first")
    first = out.read_bytes()
    draw_sheet(images[:4], out, "first")
    assert out.read_bytes() == first
    assert [path.name for path in out.parent.iterdir()] == ["grid.png"]
    for others, title, columns in ((images[:4], "second", 4), (images[:4], "first", 2), (images[:3], "first", 4)):
        draw_sheet(others, out, title, columns)
        assert out.read_bytes() != first


@pytest.mark.parametrize("members", [0, 5])
def test_the_legend_and_the_notice_are_whole_on_a_narrow_picture(drawn, members):
    """Entries that do not fit go into another row: the picture is as much higher, and nothing is cut."""
    image = drawn([])[4]
    names = {f"a_detector_{number}": Detections.none() for number in range(members)}
    picture = picture_of(dataclasses.replace(image, members=names), read(image.path).pixels)
    pixels = np.asarray(picture)[900:].astype(int)
    assert (np.abs(pixels[:, -16:] - pixels[0, 0]) < 2).all()
    for number in range(members):
        assert (pixels == rgb(MEMBERS[number].colour)).all(-1).sum() > 50


def test_a_long_title_stays_on_the_page(drawn, predictions, tmp_path):
    draw_sheet([drawn(predictions)[1]], tmp_path / "sheet.png", "W" * 500)
    pixels = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert (pixels[:, -20:] == pixels[0, 0]).all()


def test_show_dir_has_every_image_and_the_grid(prepared, predictions, tmp_path):
    (tmp_path / "predictions.json").write_text(json.dumps(predictions))
    truth = prepared / "annotations" / "test.json"
    draw_show_dir(tmp_path / "show", files_of(prepared), truth, tmp_path / "predictions.json", 0.3, "frcnn")
    names = sorted(path.name for path in (tmp_path / "show").iterdir())
    assert names == ["grid.png", *(f"image{number}.png" for number in range(1, 7))]


def test_images_of_one_name_do_not_replace_each_other(prepared, tmp_path):
    files = files_of(prepared)
    files[2] = tmp_path / "elsewhere" / files[1].name
    files[2].parent.mkdir()
    files[2].write_bytes(files[1].read_bytes())
    (tmp_path / "predictions.json").write_text("[]")
    truth = prepared / "annotations" / "test.json"
    draw_show_dir(tmp_path / "show", files, truth, tmp_path / "predictions.json", 0.3, "frcnn")
    assert {"image1_1.png", "image1_2.png", "image3.png"} < {path.name for path in (tmp_path / "show").iterdir()}


def test_nothing_to_draw(tmp_path):
    with pytest.raises(DataError, match=r"grid.png: no image to draw"):
        draw_sheet([], tmp_path / "grid.png", "title")


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "text"])
def test_a_bad_image_is_named_and_no_half_sheet_left(drawn, tmp_path, damage):
    good = drawn([])[1]
    path = tmp_path / "image.png"
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    content = {"empty": b"", "truncated": path.read_bytes()[:900], "text": b"not a picture"}.get(damage)
    path.unlink() if content is None else path.write_bytes(content)
    bad = dataclasses.replace(good, path=path)
    with pytest.raises(RadiographError, match=r"image\.png: "):
        draw_sheet([good, bad], tmp_path / "grid.png", "title")
    assert not list(tmp_path.glob("grid*"))


def test_no_space_leaves_the_old_picture(drawn, tmp_path, monkeypatch):
    image, out = drawn([])[1], tmp_path / "image.png"
    out.write_bytes(b"old")

    def full(self, data):
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        draw_image(image, out)
    assert out.read_bytes() == b"old"


def test_members_of_an_ensemble_have_their_own_colours(drawn, predictions, tmp_path):
    image = drawn(predictions)[2]
    members = {
        name: Detections(np.array([[x, 20, x + 40, 60]]), np.array([0.5])) for name, x in (("frcnn", 20), ("yolo", 70))
    }
    draw_image(dataclasses.replace(image, members=members), tmp_path / "image.png")
    draw_image(image, tmp_path / "alone.png")
    for look in MEMBERS[:2]:
        assert count(tmp_path / "image.png", look.colour) > 300
        assert count(tmp_path / "alone.png", look.colour) == 0
    assert count(tmp_path / "image.png", MEMBERS[2].colour) == 0
