from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from covidmm.errors import DataError
from covidmm.prepare.layouts.cvat import _BOXES, read_folder
from covidmm.prepare.options import Options
from covidmm.prepare.pipeline import prepare

LABELS = "".join(f"<label><name>{name}</name></label>" for name in ("nodule", "opacity", "never drawn"))
META = f"<meta><task><labels>{LABELS}</labels></task></meta>"
BOX = '<box label="{}" xtl="2" ytl="3" xbr="12" ybr="23" {}>{}</box>'


def cvat(*images, meta=META):
    return f"<annotations><version>1.1</version>{meta}{''.join(images)}</annotations>"


def image(name, *shapes, size=(48, 60), more=""):
    return f'<image id="7" name="{name}" width="{size[0]}" height="{size[1]}" {more}>{"".join(shapes)}</image>'


def read(tmp_path, make, text, images=("a",)):
    for seed, name in enumerate(images):
        make.png(tmp_path / "images" / f"{name}.png", seed)
    (tmp_path / "annotations.xml").write_text(text, encoding="utf-8")
    return read_folder(tmp_path, Options())


def test_boxes_tags_attributes_and_ids_are_kept(tmp_path, make):
    attributes = '<attribute name="doubt">high</attribute><attribute name="ignore">true</attribute>'
    shapes = BOX.format("opacity", 'occluded="1"', ""), BOX.format("nodule", "", attributes), '<tag label="opacity"/>'
    folder = read(tmp_path, make, cvat(image("图/a.png", *shapes, more='subset="Validation" task_id="3"')))
    assert folder.categories == ("nodule", "opacity", "never drawn")
    (sample,) = folder.samples.values()
    assert [one[:3] for one in sample.boxes] == [((2, 3, 10, 20), 1, False), ((2, 3, 10, 20), 0, True)]
    assert sample.boxes[0].extra == {"attributes": {"occluded": "true"}}
    assert sample.boxes[1].extra == {"attributes": {"doubt": "high", "ignore": "true"}}
    assert sample.classes == ("opacity", "nodule")
    assert (sample.size, sample.extra) == ((60, 48), {"cvat_id": "7", "cvat_task_id": "3"})
    assert not folder.skipped
    assert not folder.notes


@given(
    st.tuples(st.floats(5, 400), st.floats(5, 400), st.floats(3, 300), st.floats(3, 300)),
    st.floats(-360, 360),
)
def test_a_rotated_box_is_enclosed_as_opencv_does(box, angle):
    x, y, width, height = box
    shape = ElementTree.fromstring(
        f'<box xtl="{x}" ytl="{y}" xbr="{x + width}" ybr="{y + height}" rotation="{angle}"/>'
    )
    corners = cv2.boxPoints(((x + width / 2, y + height / 2), (width, height), angle))
    low, high = corners.min(0), corners.max(0)
    assert _BOXES["box"](shape) == pytest.approx((*low, *(high - low)), abs=0.01)


@given(st.tuples(*[st.floats(100, 300)] * 2, *[st.floats(2, 90)] * 2), st.floats(0, 360))
def test_an_ellipse_is_enclosed(numbers, angle):
    x, y, a, b = numbers
    shape = ElementTree.fromstring(f'<ellipse cx="{x}" cy="{y}" rx="{a}" ry="{b}" rotation="{angle}"/>')
    turns = np.linspace(0, 2 * np.pi, 20001)
    turn = np.radians(angle)
    xs = x + a * np.cos(turns) * np.cos(turn) - b * np.sin(turns) * np.sin(turn)
    ys = y + a * np.cos(turns) * np.sin(turn) + b * np.sin(turns) * np.cos(turn)
    assert _BOXES["ellipse"](shape) == pytest.approx((xs.min(), ys.min(), np.ptp(xs), np.ptp(ys)), abs=1e-3)


def test_other_shapes_are_enclosed_or_left_out_and_said(tmp_path, make):
    shapes = (
        '<polygon label="nodule" points="4.5,9;20,3;11,30"/>',
        '<mask label="nodule" rle="1, 2" left="5" top="6" width="7" height="8"/>',
        BOX.format("nodule", 'rotation="90"', ""),
        '<polyline label="nodule" points="1,1;2,2"/>',
    )
    folder = read(tmp_path, make, cvat(image("a.png", *shapes)))
    (sample,) = folder.samples.values()
    assert [one.box for one in sample.boxes] == [(4.5, 3, 15.5, 27), (5, 6, 7, 8), pytest.approx((-3, 8, 20, 10))]
    told = [(note.field, note.cause) for note in folder.notes]
    assert told == [
        ("polygon (image '7', polygon 1)", "the box that encloses the polygon is taken"),
        ("mask (image '7', mask 2)", "the box that encloses the mask is taken"),
        ("box (image '7', box 3)", "the box that encloses the rotated one is taken"),
        ("polyline (image '7', polyline 4)", "is no box and has none around it: left out"),
    ]


@pytest.mark.parametrize(
    ("shape", "field", "cause"),
    [
        (BOX.format("nodul", "", ""), "label (image '7', box 1)", "'nodul' is no label of the task"),
        ('<box label="nodule" xtl="9" ytl="3" xbr="2" ybr="23"/>', "x2 (image '7', box 1)", "2 is below x1, 9"),
        ('<box label="nodule" xtl="x" ytl="3" xbr="2" ybr="23"/>', "xtl (image '7', box 1)", "could not convert"),
        ('<box label="nodule" xtl=".1" ytl=".1" xbr=".2" ybr=".9"/>', "box (image '7', box 1)", "got shares"),
        ('<polygon label="nodule" points="1,2"/>', "points (image '7', polygon 1)", "1 are no polygon"),
        ("<star label='nodule'/>", "star (image '7', star 1)", "is no shape of CVAT's"),
    ],
)
def test_an_image_with_an_unusable_shape_is_not_used(tmp_path, make, shape, field, cause):
    folder = read(tmp_path, make, cvat(image("a.png", shape), image("b.png")), images=("a", "b"))
    assert [sample.source.name for sample in folder.samples.values()] == ["b.png"]
    (issue,) = folder.skipped
    assert (issue.file, issue.field) == ("annotations.xml", field)
    assert cause in issue.cause


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("<annotations><track id='0'/></annotations>", "is the export of a video"),
        ("<!DOCTYPE x [<!ENTITY a 'b'>]><annotations/>", "has a DOCTYPE"),
        ("<annotations", "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_used_is_listed(tmp_path, make, text, cause):
    assert cause in read(tmp_path, make, text).skipped[0].cause


def test_a_folder_without_a_file_of_cvat_is_an_error(tmp_path, make):
    with pytest.raises(DataError, match="no file of CVAT in it"):
        read(tmp_path, make, "<annotation/>")


def test_images_that_are_missing_or_of_another_size_are_listed(tmp_path, make):
    for seed, name in enumerate("abcdefgh"):
        make.png(tmp_path / "raw" / f"{name}.png", seed)
    height, width = cv2.imread(str(tmp_path / "raw/a.png"), 0).shape
    images = [image(f"{name}.png", BOX.format("opacity", "", ""), size=(width, height)) for name in "abcdefg"]
    images += [image("gone.png"), image("h.png", size=(width + 1, height))]
    (tmp_path / "raw/annotations.xml").write_text(cvat(*images))
    summary = prepare("cvat", tmp_path / "raw", tmp_path / "out", Options(workers=1, progress=False))
    assert summary.skipped.total == 2
    text = (tmp_path / "out/skipped.csv").read_text()
    assert "no such image below raw/" in text
    assert 'size of h,"says 49 x 60, the image is 48 x 60"' in text
