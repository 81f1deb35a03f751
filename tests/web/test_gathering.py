"""Gathering without a network."""

import io
import threading
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

from covidmm import radiograph
from covidmm.web.gathering import Gathering, Received

LARGE = 10**9


def image(content=b"a", size=10):
    return Received(pydicom.Dataset(), radiograph.of_array(np.arange(size * size).reshape(size, size)), content)


def report():
    made = pydicom.Dataset()
    made.SOPInstanceUID = generate_uid()
    return made


@pytest.fixture
def gathering():
    made = Gathering(0.01, LARGE)
    yield made
    made.close()


def test_images_of_a_study_are_due_together_and_once(gathering):
    for study, name in (("s", "a"), ("s", "b"), ("t", "c"), ("s", "a")):
        assert gathering.add(study, name, image())
    found = {batch.study: len(batch.images) for batch in (gathering.due(), gathering.due())}
    assert found == {"s": 2, "t": 1}
    gathering.close()
    assert gathering.due() is None


def test_a_study_is_not_due_before_its_time():
    gathering = Gathering(3600, LARGE)
    gathering.add("s", "a", image())
    found = []
    waiting = threading.Thread(target=lambda: found.append(gathering.due()))
    waiting.start()
    waiting.join(0.2)
    assert found == []
    gathering.close()  # what has come is due at once
    waiting.join()
    assert found[0].study == "s"


def test_what_comes_later_makes_a_larger_study_with_its_former_report(gathering):
    gathering.add("s", "a", image())
    first, made = gathering.due(), report()
    gathering.reported(first, made, b"file")
    gathering.add("s", "b", image())
    second = gathering.due()
    assert (len(second.images), second.former, second.content) == (2, made, None)


def test_the_same_images_again_are_the_same_report(gathering):
    gathering.add("s", "a", image())
    gathering.reported(gathering.due(), report(), b"file")
    gathering.add("s", "a", image())
    assert gathering.due().content == b"file"


def test_another_content_under_the_same_uid_is_said(gathering):
    gathering.add("s", "a", image())
    gathering.add("s", "a", image(b"b"))
    (note,) = gathering.due().notes
    assert "different contents" in note


def test_an_image_that_comes_while_its_study_is_reported_waits_for_the_next_report(gathering):
    gathering.add("s", "a", image())
    first = gathering.due()
    gathering.add("s", "b", image())
    gathering.reported(first, report(), b"file")
    assert len(gathering.due().images) == 2


def test_after_a_report_that_failed_the_images_are_reported_anew(gathering):
    gathering.add("s", "a", image())
    gathering.reported(gathering.due(), None, None)
    gathering.add("s", "a", image())
    batch = gathering.due()
    assert (batch.former, batch.content, len(batch.images)) == (None, None, 1)


def test_an_early_end_is_said_once(gathering):
    gathering.add("s", "a", image())
    gathering.ended_early({"s", "unknown"})
    first = gathering.due()
    gathering.reported(first, report(), b"file")
    gathering.add("s", "b", image())
    assert ["ended early" in note for note in first.notes] == [True]
    assert gathering.due().notes == []


def test_a_long_value_of_a_header_counts(gathering):
    long = image()
    long.header.PatientName = "x" * 10**6
    saved = io.BytesIO()
    long.header.save_as(saved, implicit_vr=True, little_endian=True)
    header = pydicom.dcmread(saved, force=True, specific_tags=["PatientName"])
    assert replace(long, header=header).held > 10**6


def test_reported_studies_make_room_and_waiting_ones_do_not():
    size = image(size=100).held
    gathering = Gathering(0.01, 2 * size + 100)
    made = report()
    gathering.add("old", "a", image(size=100))
    gathering.reported(gathering.due(), made, b"file")
    assert gathering.add("s", "a", image(size=100))
    assert gathering.add("s", "b", image(size=100))  # the old study is forgotten
    assert not gathering.add("s", "c", image(size=100))
    batch = gathering.due()
    assert len(batch.images) == 2
    gathering.reported(batch, report(), b"file")
    assert gathering.add("old", "d", image(size=100))
    later = gathering.due()
    assert len(later.images) == 1
    assert later.former is None
    assert any(str(made.SOPInstanceUID) in note for note in later.notes)
    gathering.close()
    assert not gathering.add("s", "e", image())
