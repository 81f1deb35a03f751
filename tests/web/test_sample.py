import io

import pydicom

from covidmm.web.sample import sample_file


def test_the_sample_is_a_dicom_of_nobody_and_always_the_same():
    dataset = pydicom.dcmread(io.BytesIO(sample_file()))
    assert "no patient" in dataset.DeidentificationMethod
    assert min(dataset.Rows, dataset.Columns) > 800
    assert sample_file() is sample_file()
