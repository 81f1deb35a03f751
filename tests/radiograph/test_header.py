import json
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import FileMetaDataset

from covidmm.radiograph import PREPARED_FIELDS, Header
from covidmm.radiograph.header import KEYWORDS


def dataset(**attributes):
    made = Dataset()
    made.file_meta = FileMetaDataset()
    for name, value in {"Rows": 4, "Columns": 5, "PhotometricInterpretation": "MONOCHROME1", **attributes}.items():
        setattr(made, name, value)
    return made


def test_every_field_has_an_element_that_dicom_knows():
    assert len(KEYWORDS) == len(set(KEYWORDS)) == len(Header.__dataclass_fields__) - 1
    assert all(tag_for_keyword(keyword) for keyword in KEYWORDS)


def test_the_order_of_the_fields_in_coco_files_is_frozen():
    assert (
        *("photometric", "view", "sex", "age", "modality", "manufacturer", "body_part", "bits_stored"),
        "transfer_syntax",
    ) == PREPARED_FIELDS


def test_blank_and_absent_elements_are_none_or_the_default():
    header = Header.of_dataset(Path("a"), dataset(Manufacturer=" ", BitsStored=None, NumberOfFrames=0))
    assert header == Header(Path("a"), 4, 5, photometric="MONOCHROME1")


@pytest.mark.parametrize("keyword", ["Rows", "Columns", "PhotometricInterpretation"])
def test_without_a_required_element_there_is_no_image(keyword):
    with pytest.raises(ValueError, match=f"^DICOM without {keyword}: it holds no image$"):
        Header.of_dataset(Path("a"), dataset(**{keyword: None}))


def test_json_holds_all_but_the_path():
    header = Header.of_dataset(Path("a"), dataset(PatientID="p", PatientAge="030M", SOPInstanceUID="1.2"))
    again = Header.from_json(Path("b"), json.loads(json.dumps(header.to_json())))
    assert vars(again) == {**vars(header), "path": Path("b")}
    assert (again.patient, again.age) == ("p", 2)
