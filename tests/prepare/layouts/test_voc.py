from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covidmm.errors import DataError
from covidmm.prepare.layouts.voc import _box, read_folder
from covidmm.prepare.options import Options
from covidmm.prepare.pipeline import prepare

BILLION = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]>'


def thing(name="opacity", corners=(1, 2, 10, 20), more=""):
    sides = zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
    return f"<object><name>{name}</name>{more}<bndbox>{''.join(f'<{k}>{v}</{k}>' for k, v in sides)}</bndbox></object>"


def voc(*objects, size=(48, 60), filename="x.jpg", head=""):
    sides = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>1</depth></size>"
    return f"{head}<annotation><filename>{filename}</filename>{sides}{''.join(objects)}</annotation>"


def write(tmp_path, make, files, images=("a",), lists=()):
    for seed, name in enumerate(images):
        make.png(tmp_path / "JPEGImages" / f"{name}.png", seed)
    for folder, contents in (("Annotations", files), ("ImageSets/Main", dict(lists))):
        for name, text in contents.items():
            path = tmp_path / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return tmp_path


def folder_of(*arguments, **more):
    return read_folder(write(*arguments, **more), Options())


def test_corners_count_from_one_and_are_inclusive(tmp_path, make):
    files = {"a.xml": voc(thing(), thing("nodule", (48, 60, 48, 60), "<difficult>1</difficult>"))}
    folder = folder_of(tmp_path, make, files)
    assert folder.categories == ("nodule", "opacity")
    (sample,) = folder.samples.values()
    assert [one[:3] for one in sample.boxes] == [((0, 1, 10, 19), 1, False), ((47, 59, 1, 1), 0, True)]
    assert sample.size == (60, 48)


@given(st.tuples(*[st.floats(2, 500)] * 2, *[st.floats(0, 500)] * 2))
def test_any_corners_are_read_as_written(box):
    x, y, width, height = box
    root = ElementTree.fromstring(thing(corners=(x + 1, y + 1, x + width + 1, y + height + 1)))
    assert _box(root.find("bndbox")) == pytest.approx((x, y, width + 1, height + 1))


def test_xml_beside_images_and_images_found_by_filename(tmp_path, make):
    make.png(tmp_path / "one/a.b.png", 0)
    make.png(tmp_path / "two/図.png", 1)
    (tmp_path / "one/a.b.xml").write_text(voc(thing()))
    (tmp_path / "two/other.xml").write_text(voc(size=(0, 0), filename="図.png"))
    folder = read_folder(tmp_path, Options())
    assert {name: len(sample.boxes) for name, sample in folder.samples.items()} == {"a.b": 1, "図": 0}
    assert folder.samples["図"].size is None
    assert not folder.skipped


def test_the_nearest_of_two_images_of_one_name_is_meant(tmp_path, make):
    for seed, year in enumerate(("VOC2007", "VOC2012")):
        write(tmp_path / year, make, {"a.xml": voc(thing(year))}, [])
        make.png(tmp_path / year / "JPEGImages/a.png", seed)
    folder = read_folder(tmp_path, Options())
    assert {sample.source.parts[-3]: sample.classes for sample in folder.samples.values()} == {
        "VOC2007": ("VOC2007",),
        "VOC2012": ("VOC2012",),
    }


def test_lists_are_the_splits(tmp_path, make):
    lists = {
        "train.txt": "a\n",
        "val.txt": "b c\n\n",
        "trainval.txt": "a\nb c\n",
        "test.txt": "d\nghost\n",
        "opacity_train.txt": "a -1",
    }
    files = {f"{name}.xml": voc(thing()) for name in ("a", "b c", "d", "e")}
    folder = folder_of(tmp_path, make, files, ("a", "b c", "d", "e"), lists)
    assert {name: sample.official for name, sample in folder.samples.items()} == {
        "a": "train",
        "b c": "val",
        "d": "test",
    }
    assert sorted(folder.skipped) == [
        ("Annotations/e.xml", "split (JPEGImages/e.png)", "is in no split, though other images are"),
        ("ImageSets/Main/test.txt", "name 'ghost'", "there is no XML file of this name"),
    ]
    (tmp_path / "ImageSets/Main/val.txt").write_text("a\n")
    with pytest.raises(DataError, match=r"val\.txt: 'a' is in train\.txt too"):
        read_folder(tmp_path, Options())


@pytest.mark.parametrize(
    ("text", "field", "cause"),
    [
        (voc(thing(), head=BILLION), "xml (file)", "has a DOCTYPE"),
        (("\ufeff" + voc(thing("&b;"), head=BILLION)).encode("utf-16-le"), "xml (file)", "has a DOCTYPE"),
        ("<annotation>", "xml (file)", "no element found"),
        (b"", "xml (file)", "no element found"),
        (voc(thing(), thing("")), "name (object 2)", "is empty"),
        (voc("<object><name>x</name></object>"), "bndbox (object 1)", "there is none"),
        (voc(thing(corners=(5, 2, 4, 20))), "bndbox (object 1)", "is inverted: 5 2 4 20"),
        (voc(thing(corners=(0.1, 0.1, 0.5, 0.5))), "box (object 1)", "expected pixels, got shares"),
        (voc(thing(corners=(1, 2, "x", 20))), "xmax (object 1)", "could not convert"),
        (voc(thing(corners=(1, 2, "", 20))), "xmax (object 1)", "could not convert"),
        (voc(size=("wide", 60)), "width (a)", "could not convert"),
    ],
)
def test_an_image_with_a_bad_file_is_not_used(tmp_path, make, text, field, cause):
    folder = folder_of(tmp_path, make, {"a.xml": text, "b.xml": voc(thing())}, ("a", "b"))
    assert list(folder.samples) == ["b"]
    (issue,) = folder.skipped
    assert issue[:2] == ("Annotations/a.xml", field)
    assert cause in issue.cause


def test_a_label_for_a_missing_image_is_listed(tmp_path, make):
    folder = folder_of(tmp_path, make, {"a.xml": voc(), "b.xml": voc(filename="c.png")})
    assert [(issue.file, issue.field) for issue in folder.skipped] == [("Annotations/b.xml", "file_name (b)")]


def test_of_two_files_of_one_image_that_differ_neither_is_used(tmp_path, make):
    files = {"a.xml": voc(thing()), "b.xml": voc(thing(), size=(96, 120), filename="a.png")}
    folder = folder_of(tmp_path, make, files)
    assert not folder.samples
    assert "another size: 48 x 60 and 96 x 120" in folder.skipped[0].cause


def test_two_classes_that_differ_by_case_are_an_error(tmp_path, make):
    with pytest.raises(DataError, match="two classes are called 'Opacity' and 'opacity'"):
        folder_of(tmp_path, make, {"a.xml": voc(thing(), thing("Opacity"))})


def test_a_folder_without_voc_files_is_an_error(tmp_path, make):
    with pytest.raises(DataError, match="no VOC file in it"):
        folder_of(tmp_path, make, {"a.xml": "<svg/>"})


def test_boxes_outside_and_other_sizes_are_listed(tmp_path, make):
    files = {"a.xml": voc(thing(), thing(corners=(60, 1, 70, 9))), "b.xml": voc(thing(), size=(60, 48))}
    raw = write(tmp_path / "raw", make, files, ("a", "b"))
    summary = prepare("voc", raw, tmp_path / "out", Options(workers=1, progress=False))
    assert [issue.cause.split(":")[0] for issue in summary.skipped.first] == [
        "outside the 48 x 60 image",
        "says 60 x 48, the image is 48 x 60",
    ]
