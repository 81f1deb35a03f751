import json
import shutil

import cv2
import numpy as np
import pytest
from pydicom.uid import RLELossless

from covidmm import radiograph
from covidmm.datasets import image_folders
from covidmm.datasets.image_folders import read_image_folder
from covidmm.errors import DataError, RadiographError
from covidmm.prepare.options import Options
from covidmm.prepare.pipeline import prepare
from tests.corpus.valid import dataset, saved, smooth


@pytest.fixture(scope="module")
def raw(tmp_path_factory, make):
    return make.siim(tmp_path_factory.mktemp("raw") / "siim", 16, size=(120, 96))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, raw):
    out = tmp_path_factory.mktemp("prepared") / "siim"
    prepare("siim", raw, out, Options(max_size=60, workers=1, progress=False))
    return out


def test_a_raw_siim_folder_is_named_by_its_paths(raw):
    folder = read_image_folder(raw)
    assert folder.split == "train"  # there is no test
    assert len(folder) == 17
    studies = dict(folder.studies())
    assert [image.image_id for image in studies["study000"]] == ["image0000", "image0001"]
    assert list(studies) == sorted(studies)


def test_raw_and_prepared_give_the_same_pixels_and_sizes(raw, prepared):
    by_id = {image.image_id: image for image in read_image_folder(raw).images}
    folder = read_image_folder(prepared)
    assert folder.split == "test"
    assert folder.images
    for image in folder.images:
        one, other = image.read().shrunk(60), by_id[image.image_id].read().shrunk(60)
        assert (one.pixels == other.pixels).all()
        assert max(one.pixels.shape) == 60
        assert (one.header.height, one.header.width) == (other.header.height, other.header.width) == (120, 96)


@pytest.mark.parametrize("side", ["width", "height"])
def test_a_picture_of_another_size_than_its_annotations_say_is_no_truth(prepared, tmp_path, side):
    folder = shutil.copytree(prepared, tmp_path / "copy")
    path = folder / "annotations/test.json"
    content = json.loads(path.read_text())
    content["images"][0][side] //= 2
    path.write_text(json.dumps(content))
    wrong = content["images"][0]["image_id"]
    for image in read_image_folder(folder).images:
        if image.image_id == wrong:
            with pytest.raises(DataError, match="is annotated at height x width"):
                image.read()
        else:
            image.read()


def test_every_image_of_a_prepared_folder_is_in_one_split(prepared):
    names = [
        image.image_id for split in ("train", "val", "test") for image in read_image_folder(prepared, split).images
    ]
    assert len(names) == len(set(names)) == 17


def test_any_other_folder_is_named_by_headers_and_files(tmp_path, make):
    make.dicom(tmp_path / "a" / "IM1", make.picture(1), study="1.2.840.1")
    assert cv2.imwrite(str(tmp_path / "film.png"), np.full((40, 30), 90, np.uint8))
    (tmp_path / "broken.dcm").write_bytes(b"nothing")
    (tmp_path / "notes.txt").write_text("not an image")
    images = {image.image_id: image for image in read_image_folder(tmp_path).images}
    assert images["film"].study_id == "film"
    assert images["1.2.3"].study_id == "1.2.840.1"
    assert images["broken"].study_id == "broken"
    assert len(images) == 3
    with pytest.raises(RadiographError, match=r"broken\.dcm: is neither"):
        images["broken"].read()
    assert (images["film"].read().shrunk(64).pixels == radiograph.read(tmp_path / "film.png").pixels).all()


def test_the_digest_follows_names_pixels_and_split(raw, prepared, tmp_path, make):
    digests = [read_image_folder(prepared, split).sha256 for split in ("train", "val", "test")]
    assert len({*digests, read_image_folder(raw).sha256}) == 4
    assert read_image_folder(raw).sha256 == read_image_folder(raw).sha256
    make.dicom(tmp_path / "x.dcm", make.picture(1))
    before = read_image_folder(tmp_path).sha256
    make.dicom(tmp_path / "x.dcm", make.picture(2))
    assert read_image_folder(tmp_path).sha256 != before


def test_faults_are_named(tmp_path, prepared, make):
    with pytest.raises(DataError, match="no such folder"):
        read_image_folder(tmp_path / "none")
    with pytest.raises(DataError, match=r"no image in it, expected DICOM, PNG, JPEG or TIFF$"):
        read_image_folder(tmp_path)
    with pytest.raises(DataError, match="has no split 'val'"):
        read_image_folder(tmp_path, "val")
    with pytest.raises(DataError, match=r"annotations/other\.json: no such file"):
        read_image_folder(prepared, "other")
    make.dicom(tmp_path / "siim/train/study/image.dcm", make.picture(1))
    with pytest.raises(DataError, match=r"expected .*<study>/<series>/<image>\.dcm"):
        read_image_folder(tmp_path / "siim")


def test_a_damaged_annotation_file_is_one_line(tmp_path):
    (tmp_path / "annotations").mkdir()
    for content in ("{", json.dumps({"images": [{}]}), json.dumps([1])):
        (tmp_path / "annotations/test.json").write_text(content)
        with pytest.raises(DataError, match=r"test\.json: (is not JSON|is no COCO file)"):
            read_image_folder(tmp_path)


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "=1+1", "@SUM(1)", "a\nb", "a" * 60_000, "-1", "a/b"])
def test_an_id_that_could_do_harm_becomes_its_hash(name):
    plain = image_folders._plain(name)
    assert len(plain) == 32
    assert image_folders.SAFE_ID.fullmatch(plain)
    assert plain == image_folders._plain(name) != image_folders._plain(name + "x")


@pytest.mark.parametrize("name", ["1.2.840.10008", "image 7", "a" * 128, "bild_ä"])
def test_a_plain_id_stays(name):
    assert image_folders._plain(name) == name


def left_out(folder):
    return {one.path.name: (one.cause, one.fault) for one in folder.left_out}


def test_what_is_no_radiograph_is_left_out_with_its_cause(tmp_path, make):
    make.dicom(tmp_path / "CR.1.2.276.0.4.1", make.picture(1))
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "empty").touch()
    folder = read_image_folder(tmp_path)
    assert [image.path.name for image in folder.images] == ["CR.1.2.276.0.4.1"]
    assert left_out(folder) == {
        "notes.txt": ("is neither DICOM nor PNG, JPEG or TIFF, but text", False),
        "empty": ("is empty", False),
    }
    (tmp_path / "CR.1.2.276.0.4.1").unlink()
    with pytest.raises(DataError, match=r"no image in it, expected .*; 2 other files, the first: .*empty: is empty"):
        read_image_folder(tmp_path)


def test_a_second_file_of_an_image_stops_nothing(tmp_path):
    first, again, other = dataset("one"), dataset("one"), dataset("one", smooth()[::-1].copy())
    again.compress(RLELossless, generate_instance_uid=False)
    for name, content in (
        ("a", saved(first)),
        ("b", saved(first)),
        ("c", saved(again)),
        ("d", saved(other)),
        ("e", saved(first)[:-90]),
        ("f", saved(dataset("two"))),
    ):
        (tmp_path / name).write_bytes(content)
    folder = read_image_folder(tmp_path)
    assert [image.path.name for image in folder.images] == ["a", "f"]
    found = left_out(folder)
    same = f"has the image id '{first.SOPInstanceUID}' of {tmp_path / 'a'}"
    assert found["b"] == (f"{same} and is a copy of it", False)
    assert found["c"] == (f"{same} and its pixels", False)
    assert found["d"] == (f"{same}, but is another image", True)
    assert found["e"][0].endswith(f"{same}, too")
    assert found["e"][1]


def test_of_two_files_of_an_image_the_one_that_can_be_read_is_taken(tmp_path):
    (tmp_path / "a").write_bytes(saved(dataset("one"))[:-90])
    (tmp_path / "b").write_bytes(saved(dataset("one")))
    folder = read_image_folder(tmp_path)
    assert [image.path.name for image in folder.images] == ["b"]
    assert not folder.left_out[0].fault
    assert f"{tmp_path / 'b'} has its image id, too" in folder.left_out[0].cause


def test_pictures_of_one_name_are_named_by_their_folders(tmp_path):
    for name in ("a/film.png", "b/film.png", "b/film.jpg", "c/other.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / name), np.zeros((9, 9), np.uint8))
    images = {image.image_id: image for image in read_image_folder(tmp_path).images}
    assert list(images) == ["a_film.png", "b_film.jpg", "b_film.png", "other"]
    assert all(image.study_id == name for name, image in images.items())
    assert images["a_film.png"].read().notes == ("named by its folders: 3 files are called 'film'",)
    assert images["other"].read().notes == ()


def test_a_file_beside_the_layout_is_left_out(raw, tmp_path, make):
    shutil.copytree(raw, tmp_path / "siim")
    make.dicom(tmp_path / "siim/train/study000/deep/er/1.2.3.4", make.picture(1))
    make.dicom(tmp_path / "siim/more/image.dcm", make.picture(2))
    (tmp_path / "siim/train/study000/series0/notes.txt").write_text("not an image")
    folder = read_image_folder(tmp_path / "siim")
    assert len(folder) == 17
    assert {name: fault for name, (_, fault) in left_out(folder).items()} == {
        "1.2.3.4": True,
        "image.dcm": True,
        "notes.txt": False,
    }
    assert all(image.labelled for image in folder.images)
    (tmp_path / "siim/train_image_level.csv").unlink()
    assert not any(image.labelled for image in read_image_folder(tmp_path / "siim").images)
