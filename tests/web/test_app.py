"""The API: what it answers to good files, to bad ones, and to clients that misbehave."""

import io
import json
import logging
import socket
import struct
import threading
import time

import numpy as np
import pydicom
import pytest
from PIL import Image, PngImagePlugin

from covidmm.radiograph.sandbox import IsolatedReader
from covidmm.web.problems import MEDIA_TYPE
from tests.corpus.pictures import png_bomb
from tests.corpus.valid import dataset, saved

PREDICT = "/api/v1/predict"


def problem(response, status):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == MEDIA_TYPE
    found = response.json()
    assert found["status"] == status
    assert "\n" not in found["detail"]
    return found["detail"]


def png(width=40, height=30, **options):
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (height, width), np.uint8)).save(file, "PNG", **options)
    return file.getvalue()


def animation():
    frames = [Image.new("L", (20, 20), shade) for shade in (0, 100, 200)]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    return file.getvalue()


def with_private_tags(content, count):
    dataset = pydicom.dcmread(io.BytesIO(content))
    for number in range(count):
        block = dataset.private_block(0x0011 + 2 * (number // 0xF0), "PLANTED", create=True)
        block.add_new(number % 0xF0, "LO", "a value")
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def test_a_study_of_two_images_is_one_answer(client, service, files, as_form):
    response = client.post(PREDICT, files=as_form(*files[:2]))
    assert response.status_code == 200, response.text
    found = response.json()
    assert found["notice"] == "Research software, not a medical device."
    assert [(image["number"], image["width"], image["height"]) for image in found["images"]] == [
        (number, 160, 200) for number in (1, 2)
    ]
    assert sum(found["study"]["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    probabilities = found["study"]["probabilities"]
    assert found["study"]["predicted"] == max(probabilities, key=probabilities.get)
    assert [row["id"] for row in found["submission"]] == ["study_study", "image1_image", "image2_image"]
    assert response.headers["cache-control"] == "no-store"
    # the predictor that is asked about the files themselves says the same
    (wanted,) = service.predictor([pydicom.dcmread(io.BytesIO(content)) for content in files[:2]])
    assert list(probabilities.values()) == pytest.approx(wanted.probabilities, abs=1e-4)
    for image, one in zip(found["images"], wanted.images, strict=True):
        boxes = [[b["x"], b["y"], b["x"] + b["width"], b["y"] + b["height"]] for b in image["fused"]]
        assert np.array(boxes).reshape(-1, 4) == pytest.approx(one.fused.boxes, abs=0.03)
        assert [b["score"] for b in image["fused"]] == pytest.approx(one.fused.scores.tolist(), abs=1e-5)
        assert len(one.fused) > 0


@pytest.mark.parametrize("choice", ["frcnn", "yolo"])
def test_a_detector_alone_gives_its_own_boxes(client, files, as_form, choice):
    every = client.post(PREDICT, files=as_form(files[2])).json()["images"][0]
    found = client.post(f"{PREDICT}?detector={choice}", files=as_form(files[2])).json()
    assert found["detector"] == choice
    assert list(found["images"][0]["members"]) == [choice]
    assert found["images"][0]["members"][choice] == every["members"][choice]
    scores = [box["score"] for box in found["images"][0]["fused"]]
    assert scores == [box["score"] for box in every["members"][choice]]


@pytest.mark.parametrize("address", ["predict", "picture", "preview", "report"])
def test_a_radiograph_of_another_kind_is_a_problem_of_what_was_sent(client, as_form, address):
    response = client.post(f"/api/v1/{address}", files=as_form(saved(dataset("one", BodyPartExamined="LEG"))))
    assert response.status_code == 422
    assert "file 1 (0.dcm): refused: BodyPartExamined is 'LEG', the models are for" in response.json()["detail"]


def test_another_strategy_gives_other_boxes(client, files, as_form):
    wbf, nms = (client.post(f"{PREDICT}?strategy={name}", files=as_form(files[2])).json() for name in ("wbf", "nms"))
    assert (wbf["strategy"], nms["strategy"]) == ("wbf", "nms")
    assert wbf == {**client.post(PREDICT, files=as_form(files[2])).json(), "seconds": wbf["seconds"]}
    assert wbf["images"][0]["fused"] != nms["images"][0]["fused"]
    assert wbf["images"][0]["members"] == nms["images"][0]["members"]


def test_pictures_are_read_too(client, as_form):
    found = client.post(f"{PREDICT}?attention=true", files=as_form(png())).json()
    assert (found["images"][0]["width"], found["images"][0]["height"]) == (40, 30)
    rows = np.array(found["images"][0]["attention"]["rows"])
    assert rows.ndim == 2
    assert 0 <= rows.min() <= rows.max() <= 1


def test_the_preview_is_grey_values_and_nothing_else(client, files, reader, as_form):
    response = client.post("/api/v1/preview", files=as_form(files[0]))
    assert (response.headers["x-image-width"], response.headers["x-image-height"]) == ("160", "200")
    picture = Image.open(io.BytesIO(response.content))
    assert not picture.info
    assert (np.asarray(picture) == reader.read(files[0], "x").pixels).all()
    assert [kind for kind in _chunks(response.content) if kind not in (b"IHDR", b"IDAT", b"IEND")] == []
    problem(client.post("/api/v1/preview", files=as_form(files[0], files[1])), 422)


def test_the_picture_is_drawn_here_and_has_pixels_alone(client, files, as_form):
    address = "/api/v1/picture?members=yolo&members=frcnn&attention=true&level=100&width=200&invert=true"
    response = client.post(address, files=as_form(files[0]))
    assert response.status_code == 200, response.text
    picture = Image.open(io.BytesIO(response.content))
    assert picture.mode == "RGB"
    assert picture.height > 900  # small radiographs are enlarged, so that scores can be read
    assert [kind for kind in _chunks(response.content) if kind not in (b"IHDR", b"IDAT", b"IEND")] == []
    assert client.post("/api/v1/picture?fused=false", files=as_form(files[0])).content != response.content
    assert "made of one file" in problem(client.post("/api/v1/picture", files=as_form(*files[:2])), 422)
    assert "'x' is no member" in problem(client.post("/api/v1/picture?members=x", files=as_form(files[0])), 422)
    hidden, none = (
        client.post(f"/api/v1/picture?{q}", files=as_form(files[0])) for q in ("hidden=opacity", "fused=false")
    )
    assert hidden.content == none.content
    assert "'x' is no class; there are opacity" in problem(
        client.post("/api/v1/picture?hidden=x", files=as_form(files[0])), 422
    )
    assert "width" in problem(client.post("/api/v1/picture?width=0", files=as_form(files[0])), 422)


def _chunks(content):
    place = 8
    while place < len(content):
        (size,) = struct.unpack(">I", content[place : place + 4])
        yield content[place + 4 : place + 8]
        place += 12 + size


def test_what_can_be_asked(client):
    found = client.get("/api/v1/models").json()
    assert [choice["name"] for choice in found["choices"]] == ["ensemble", "frcnn", "yolo"]
    assert found["strategies"][0] == "wbf"
    assert set(found["colours"]) == {"ensemble", "frcnn", "yolo"}
    assert (found["classes"], found["looks"]) == (["opacity"], [])
    assert "learned" not in found["strategies"]  # needs parameters
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/openapi.json").json()["paths"].keys() >= {PREDICT, "/api/v1/models", "/healthz", "/metrics"}


@pytest.mark.parametrize(
    ("query", "cause"),
    [
        ("detector=x", "no such detector; there are ensemble, frcnn, yolo"),
        ("strategy=wfb", "no such strategy"),
        ("detector=yolo&strategy=nms", "a single detector has none"),
        ("attention=perhaps", "attention"),
    ],
)
def test_a_wrong_choice(client, files, as_form, query, cause):
    assert cause in problem(client.post(f"{PREDICT}?{query}", files=as_form(files[0])), 422)


def test_nothing_at_this_address_and_the_wrong_method(client):
    problem(client.get("/api/v1/nothing"), 404)
    problem(client.get("/../../etc/passwd"), 404)
    assert "GET" in problem(client.get(PREDICT), 405)


BAD = {
    "text": (b"hello", "neither DICOM nor PNG"),
    "gif": (animation(), "neither DICOM nor PNG"),
    "empty": (b"", "is empty"),
    "png head": (b"\x89PNG\r\n\x1a\n", "damaged picture"),
    "bomb": (png_bomb(30_000, 8), "900000000 pixels"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_one_sentence_and_the_next_request_works(client, files, as_form, kind):
    content, cause = BAD[kind]
    assert cause in problem(client.post(PREDICT, files=as_form(files[0], content)), 422)
    problem(client.post("/api/v1/preview", files=as_form(content)), 422)
    assert client.post(PREDICT, files=as_form(files[0])).status_code == 200


@pytest.mark.parametrize("share", [0.02, 0.2, 0.9])
def test_a_truncated_dicom(client, files, as_form, share):
    assert "file 1 (0.dcm)" in problem(client.post(PREDICT, files=as_form(files[0][: int(len(files[0]) * share)])), 422)


def test_a_png_with_a_name_in_it_says_nothing_of_it(client, as_form, caplog):
    text = PngImagePlugin.PngInfo()
    text.add_text("Patient", "PLANTED^NAME")
    with caplog.at_level(logging.DEBUG):
        response = client.post(PREDICT, files=as_form(png(pnginfo=text)))
    assert response.status_code == 200
    assert "PLANTED" not in response.text + caplog.text
    assert b"PLANTED" not in client.post("/api/v1/preview", files=as_form(png(pnginfo=text))).content


def test_very_many_private_tags(client, files, as_form):
    assert client.post(PREDICT, files=as_form(with_private_tags(files[0], 5000))).status_code == 200


@pytest.mark.parametrize("name", ["../../etc/passwd", "C:\\x\\y.dcm", "a\r\nX: y", "\0.dcm", "x" * 500, "<b>.png"])
def test_tricks_with_names(client, name):
    detail = problem(client.post(PREDICT, files=[("files", (name, b"no image"))]), 422)
    assert detail.startswith("file 1 (")
    assert not any(part in detail for part in ("../", "\\", "<", "\0", "etc/", "x" * 61))


def test_no_file_and_no_form(client, files, capfd):
    assert "Only files in the field 'files'" in problem(client.post(PREDICT, files={"other": ("x", b"")}), 422)
    problem(client.post(PREDICT), 415)
    problem(client.post(PREDICT, content=b"{}", headers={"content-type": "application/json"}), 415)
    form = {"content-type": "multipart/form-data; boundary=x"}
    problem(client.post(PREDICT, content=b"", headers=form), 422)
    problem(client.post(PREDICT, content=b"--x--\r\n", headers=form), 422)
    problem(client.post(PREDICT, content=b"garbage", headers=form), 400)
    problem(client.post(PREDICT, content=b"--x\r\n\r\n\r\n--x--\r\n", headers=form), 400)
    problem(client.post(PREDICT, content=b"x", headers={"content-type": "multipart/form-data"}), 400)
    assert capfd.readouterr().err == ""  # python-multipart would quote it
    problem(client.post(PREDICT, data={"files": "text"}, files={"files": ("x", files[0])}), 422)


def test_too_many_files_and_too_large(client, files, as_form):
    assert "Too many files" in problem(client.post(PREDICT, files=as_form(*files, files[0])), 400)
    large = bytes(5 * 2**20)
    assert "larger than 4 MB" in problem(client.post(PREDICT, files=as_form(large)), 413)
    # without a length that is declared it is counted while it comes in
    pieces = (b"--x\r\nContent-Disposition: form-data; name=files; filename=y\r\n\r\n", *[bytes(2**20)] * 200)
    sent = []

    def body():
        for piece in pieces:
            sent.append(len(piece))
            yield piece

    headers = {"content-type": "multipart/form-data; boundary=x"}
    problem(client.post(PREDICT, content=body(), headers=headers), 413)
    assert client.post(PREDICT, files=as_form(files[0])).status_code == 200


def test_files_of_two_studies_are_refused(client, files, as_form):
    assert "of 2 studies" in problem(client.post(PREDICT, files=as_form(files[0], files[2])), 422)


def test_an_overloaded_server_says_when_to_come_back(server, files):
    release, (predict, decode) = (
        threading.Event(),
        (server.app.state.dispatcher.queues[n] for n in ("predict", "decode")),
    )
    blockers = [predict.submit(release.wait) for _ in range(2)]
    try:
        answer = ask(server.port, form_request(files[0]))
        assert b" 503 " in answer.splitlines()[0]
        assert b"retry-after: " in answer
        assert b'"The server is busy; try again shortly."' in answer
    finally:
        release.set()
    assert all(one.result() for one in blockers)
    assert b" 200 " in ask(server.port, form_request(files[0])).splitlines()[0]
    assert predict.pending == decode.pending == 0


def form_request(content, path=PREDICT, extra=b""):
    body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="PLANTED_FILE.dcm"\r\n\r\n'
    body += content + b"\r\n--x--\r\n"
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x\r\nConnection: close\r\n"
    return head.encode() + extra + f"Content-Length: {len(body)}\r\n\r\n".encode() + body


def ask(port, request):
    with socket.create_connection(("127.0.0.1", port), timeout=120) as line:
        line.sendall(request)
        return read_all(line)


def read_all(line):
    found = b""
    while piece := line.recv(65536):
        found += piece
    return found


def until(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_client_that_leaves_while_it_waits_is_not_served(server, files):
    dispatcher = server.app.state.dispatcher
    release = threading.Event()
    blocker = dispatcher.queues["predict"].submit(release.wait)
    try:
        with socket.create_connection(("127.0.0.1", server.port)) as line:
            line.sendall(form_request(files[0]))
            until(lambda: dispatcher.queues["predict"].pending == 2)
        until(lambda: dispatcher.queues["predict"].pending == 1)
        until(lambda: dispatcher.receiver.held == 0)
    finally:
        release.set()
    assert blocker.result()


def test_a_client_that_leaves_in_the_middle_or_is_slow_harms_no_other(server, files):
    dispatcher, request = server.app.state.dispatcher, form_request(files[0])
    with socket.create_connection(("127.0.0.1", server.port)) as line:
        line.sendall(request[: len(request) // 2])
        until(lambda: dispatcher.receiver.held > 0)
    until(lambda: dispatcher.receiver.held == 0)
    with socket.create_connection(("127.0.0.1", server.port), timeout=120) as slow:
        slow.sendall(request[: len(request) // 2])
        assert b" 200 " in ask(server.port, request).splitlines()[0]  # meanwhile others are served
        answer = read_all(slow)
    assert b" 408 " in answer.splitlines()[0]
    assert b"did not arrive within 5 s" in answer
    assert dispatcher.receiver.held == 0


def test_all_uploads_together_are_bounded(server, files):
    with socket.create_connection(("127.0.0.1", server.port)) as one:
        one.sendall(form_request(bytes(int(3.9 * 2**20)))[:-20])
        until(lambda: server.app.state.dispatcher.receiver.held > 3.8 * 2**20)
        answer = ask(server.port, form_request(bytes(3 * 2**20)))
        assert b" 503 " in answer.splitlines()[0]
        assert b"retry-after" in answer
        assert b" 200 " in ask(server.port, form_request(files[0])).splitlines()[0]


def test_names_that_are_planted_in_headers_reach_no_log_and_no_answer(client, files, caplog, capfd, tmp_path, as_form):
    dataset = pydicom.dcmread(io.BytesIO(files[0]))
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = "PLANTED^NAME", "PLANTED_ID", "PLANTED_DATE"
    dataset.AccessionNumber, dataset.StudyInstanceUID = "PLANTED_ACCESSION", "PLANTED_UID"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "PLANTED_IMAGE"
    dataset.WindowCenter = "1"
    file = io.BytesIO()
    with pydicom.config.disable_value_validation():
        dataset.save_as(file)
    caplog.clear()
    capfd.readouterr()  # of what this test wrote, pydicom has a lot to say
    good = file.getvalue()
    bad = good[:-100].replace(b"MONOCHROME2", b"PLANTED_PHO")
    with caplog.at_level(logging.DEBUG):
        answers = [
            client.post(f"{PREDICT}?attention=true", files=[("files", ("PLANTED_FILE.dcm", content))])
            for content in (good, bad)
        ]
        picture = client.post("/api/v1/preview", files=as_form(good))
        client.get("/PLANTED_ADDRESS?name=PLANTED")
    assert [one.status_code for one in answers] == [200, 422]
    assert picture.status_code == 200
    assert "PLANTED" not in json.dumps(answers[0].json())
    assert b"PLANTED" not in picture.content
    captured = capfd.readouterr()
    assert "PLANTED" not in captured.out + captured.err
    assert "PLANTED" not in "".join(record.getMessage() for record in caplog.records if "httpx" not in record.name)
    assert any("POST /api/v1/predict 200" in record.getMessage() for record in caplog.records)


def test_nothing_is_written_to_disk(client, files, as_form, monkeypatch):
    opened = []
    monkeypatch.setattr("tempfile._get_candidate_names", lambda: opened.append(1) or iter(()))
    large = with_private_tags(files[0], 100) + bytes(2 * 2**20)  # above the size that forms are spooled at by default
    assert client.post(PREDICT, files=as_form(large)).status_code in (200, 422)
    assert client.post(PREDICT, files=as_form(files[0])).status_code == 200
    assert not opened


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("strategy", "image 'image1': Broken failed: KeyError: 'boxes'"),
        (
            "classifier",
            "study 'study': the study classifier answered [0.5, 0.5], "
            "not 4 probabilities that add up to 1, of negative, typical, indeterminate, atypical",
        ),
    ],
)
def test_a_broken_plugin_is_one_sentence(client, service, files, monkeypatch, caplog, as_form, part, message):
    class Broken:
        def fuse(self, members, weights, size):
            raise KeyError("boxes")

        def classify(self, study):
            return [0.5, 0.5]

    monkeypatch.setattr(service._variants["ensemble", None], part, Broken())
    with caplog.at_level(logging.ERROR):
        assert problem(client.post(PREDICT, files=as_form(files[0])), 500) == message
    assert not caplog.records


def test_an_unforeseen_fault_is_logged_without_its_message(client, service, files, monkeypatch, caplog, as_form):
    def fail(*_):
        raise KeyError("PLANTED^NAME")

    monkeypatch.setattr(service, "predict", fail)
    with caplog.at_level(logging.DEBUG):
        problem(client.post(PREDICT, files=as_form(files[0])), 500)
    assert "KeyError at test_app.py" in caplog.text
    assert "PLANTED" not in caplog.text


def test_a_report_needs_its_extra_and_dicom(client, service, files, as_form, monkeypatch):
    monkeypatch.setattr(type(service), "reports", False)
    assert "extra 'dicom'" in problem(client.post("/api/v1/report", files=as_form(files[0])), 404)


def test_a_report_is_made_of_headers_and_findings(client, as_form):
    pytest.importorskip("highdicom", reason="the extra 'dicom' is not installed")
    from highdicom.sr import ComprehensiveSR

    from covidmm.web.web_pictures import sample_file

    file = sample_file()
    response = client.post("/api/v1/report?threshold=0.01&detector=yolo", files=as_form(file))
    assert response.headers["content-type"] == "application/dicom"
    dataset = pydicom.dcmread(io.BytesIO(response.content))
    report = ComprehensiveSR.from_dataset(dataset).content
    prediction = client.post(f"{PREDICT}?detector=yolo", files=as_form(file)).json()
    expected = sum(box["score"] >= 0.01 for image in prediction["images"] for box in image["fused"])
    assert expected > 0
    assert len(report.get_planar_roi_measurement_groups()) == expected
    assert dataset.ManufacturerModelName == "ensemble.py: yolo"
    assert dataset.PatientID == pydicom.dcmread(io.BytesIO(file)).PatientID
    hidden = client.post("/api/v1/report?detector=yolo&deidentify=true", files=as_form(file)).content
    assert pydicom.dcmread(io.BytesIO(hidden)).PatientID == ""
    assert "is no DICOM" in problem(client.post("/api/v1/report", files=as_form(png())), 422)


def test_the_page_and_its_parts_come_from_here(client):
    import re

    for path in ("/", "/docs"):
        page = client.get(path)
        assert page.status_code == 200
        assert "Research software, not a medical device" in page.text
        assert "default-src 'self'" in page.headers["content-security-policy"]
        for part in re.findall(r'(?:src|href)="([^"]+)"', page.text):
            if not part.startswith("#"):
                assert "//" not in part
                assert client.get(f"/{part}").status_code == 200, part


def test_a_decoder_that_dies_costs_one_request(client, files, as_form, monkeypatch, service):
    with IsolatedReader(20, 4 * 2**30) as mortal:
        monkeypatch.setattr(service, "reader", mortal)
        assert client.post(PREDICT, files=as_form(files[0])).status_code == 200
        mortal._child.kill()
        problem(client.post(PREDICT, files=as_form(files[0])), 422)
        assert client.post(PREDICT, files=as_form(files[0])).status_code == 200
