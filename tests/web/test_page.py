"""The page in a real browser: the distribution's chromium, driven by Playwright."""

import base64
import io
import json
import re
import struct

import numpy as np
import pytest
from PIL import Image

from covidmm.outputs.kaggle import read_submission
from covidmm.web.web_pictures import sample_file

pytestmark = pytest.mark.e2e
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra 'dev')")
expect = playwright.expect
PHONE = (390, 844)


def upload(page, content=None, name="phantom_7.dcm"):
    page.set_input_files("#files", {"name": name, "mimeType": "", "buffer": content or sample_file()})


def run(page):
    page.get_by_role("button", name="Run").click()
    expect(page.locator("#status")).to_contain_text("from confidence")


def set_threshold(page, value):
    page.locator("#threshold").fill(str(value))
    expect(page.locator("#threshold-value")).to_have_text(f"{value:.2f}")


def saved(page, kind):
    with page.expect_download() as waiting:
        page.locator(f"[data-save={kind}]").click()
    return waiting.value.suggested_filename, waiting.value.path().read_bytes()


def rows(page):
    return [cell.split("\t") for cell in page.locator("#boxes tbody tr").all_inner_texts()]


def test_a_study_from_upload_to_downloads(open_page, tmp_path):
    page = open_page()
    expect(page.get_by_text("Research software, not a medical device")).to_be_in_viewport()
    upload(page)
    expect(page.locator("#viewer")).to_have_attribute(
        "aria-label", re.compile(r"Radiograph 1 of 1, 1024 by \d+ pixels")
    )
    for choice in ("frcnn", "yolo", "ensemble"):
        page.get_by_text(choice, exact=True).click()
        expect(page.locator("[data-save=json]")).to_be_disabled()  # what was found is of another choice
        run(page)
        _, content = saved(page, "json")
        found = json.loads(content)
        assert found["detector"] == choice
    scores = [box["score"] for box in found["images"][0]["fused"]]
    assert len(scores) > 3
    set_threshold(page, 0)
    assert len(rows(page)) == len(scores)
    first = found["images"][0]["fused"][0]
    cells = [f"{first[key]:.1f}" for key in ("x", "y", "width", "height")]
    assert rows(page)[0] == ["fusion", f"{first['score']:.3f}", *cells]
    middle = round(sorted(scores)[len(scores) // 2] + 0.005, 2)
    set_threshold(page, middle)
    kept = [row for row in rows(page) if len(row) > 1]
    assert len(kept) == sum(score >= middle for score in scores) < len(scores)
    set_threshold(page, 0)
    members = sum(len(boxes) for boxes in found["images"][0]["members"].values())
    for name in ("frcnn", "yolo"):
        page.locator("#layers").get_by_label(name).check()
    assert len(rows(page)) == len(scores) + members
    page.locator("#layers").get_by_label("fusion").uncheck()
    assert len(rows(page)) == members
    classes = page.locator("#classes li").all_inner_texts()
    assert len(classes) == 4
    assert [found["study"]["predicted"] in text for text in classes] == ["predicted" in text for text in classes]
    check_picture(page)
    name, content = saved(page, "csv")
    assert name == "submission.csv"
    (tmp_path / name).write_bytes(content)
    assert read_submission(tmp_path / name).keys() == {"study_study", "phantom_7_image"}
    check_report(page)


def check_picture(page):
    name, content = saved(page, "png")
    assert name == "covidmm.png"
    picture = Image.open(io.BytesIO(content))
    assert not picture.info.keys() - {"srgb", "gamma", "dpi"}
    assert not set(chunks(content)) & {b"tEXt", b"iTXt", b"zTXt", b"eXIf", b"tIME"}
    pixels = np.asarray(picture.convert("RGB")).astype(int)
    assert pixels.shape[1] == 1024
    assert (np.ptp(pixels, axis=2) > 60).sum() > 500  # coloured boxes on grey


def chunks(content):
    place = 8
    while place < len(content):
        yield content[place + 4 : place + 8]
        place += 12 + struct.unpack(">I", content[place : place + 4])[0]


def check_report(page):
    button = page.locator("[data-save=sr]")
    if button.is_disabled():
        expect(page.locator("#sr-why")).to_contain_text("without the extra")
        return
    import pydicom

    _, content = saved(page, "sr")
    assert pydicom.dcmread(io.BytesIO(content)).Modality == "SR"


def test_strategy_attention_and_viewer(open_page):
    page = open_page()
    page.get_by_role("button", name="Sample phantom").click()
    expect(page.locator("#run")).to_be_enabled()
    page.get_by_label("Strategy").select_option("nms")
    run(page)
    assert json.loads(saved(page, "json")[1])["strategy"] == "nms"
    corner = page.locator("#corner")
    fitted = corner.inner_text()
    plain = page.locator("#viewer").screenshot()
    page.get_by_text("Grad-CAM", exact=True).click()
    expect(corner).to_contain_text("Grad-CAM of")
    while page.locator("#viewer").screenshot() == plain:  # until it is drawn
        page.wait_for_timeout(50)
    page.get_by_text("Grad-CAM", exact=True).click()
    page.get_by_role("button", name="Zoom in").click()
    expect(corner).not_to_have_text(fitted)
    page.locator("#viewer").focus()
    page.keyboard.press("0")
    expect(corner).to_have_text(fitted)
    page.keyboard.press("i")
    expect(page.locator("#invert")).to_be_checked()
    page.locator("#viewer").hover()
    page.mouse.wheel(0, -300)
    expect(corner).not_to_contain_text(fitted.splitlines()[0])
    page.get_by_text("Window", exact=True).click()
    box = page.locator("#viewer").bounding_box()
    page.mouse.move(box["x"] + 100, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 200, box["y"] + 180)
    page.mouse.up()
    expect(corner).not_to_contain_text("L 128 W 255")
    page.get_by_role("button", name="Reset").click()
    expect(corner).to_have_text(fitted)
    expect(page.locator("#invert")).not_to_be_checked()


def test_two_images_dropped_on_the_page(open_page, files):
    page = open_page()
    page.evaluate(
        """([one, two]) => {
            const data = new DataTransfer();
            for (const [name, text] of [["one.dcm", one], ["two.dcm", two]])
                data.items.add(new File([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))], name));
            document.getElementById("drop").dispatchEvent(new DragEvent("drop", {dataTransfer: data, bubbles: true}));
        }""",
        [base64.b64encode(content).decode() for content in files[:2]],
    )
    expect(page.get_by_role("button", name="two.dcm")).to_be_enabled()
    run(page)
    found = json.loads(saved(page, "json")[1])
    set_threshold(page, 0)
    for number, name in enumerate(("one.dcm", "two.dcm")):
        page.get_by_role("button", name=name).click()
        assert len(rows(page)) == len(found["images"][number]["fused"])
    page.locator("#viewer").focus()
    page.keyboard.press("PageUp")
    expect(page.locator("#viewer")).to_have_attribute("aria-label", re.compile("Radiograph 1 of 2"))


def test_a_bad_file_is_told_and_the_next_one_works(open_page):
    page = open_page()
    upload(page, b"no radiograph", "note.dcm")
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("note.dcm): is neither DICOM nor PNG")
    expect(page.locator("#run")).to_be_disabled()
    page.get_by_role("button", name="Close the message").click()
    expect(alert).to_be_hidden()
    upload(page, bytes(5 * 2**20), "large.dcm")
    expect(alert).to_contain_text("larger than 4 MB")
    upload(page)
    expect(page.locator("#run")).to_be_enabled()
    expect(alert).to_be_hidden()


def test_by_keyboard_alone(open_page):
    page = open_page()
    seen = []
    for _ in range(60):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.id || document.activeElement.innerText"))
        if seen[-1] == "sample":
            page.keyboard.press("Enter")
            expect(page.locator("#run")).to_be_enabled()
        if seen[-1] == "run":
            page.keyboard.press("Enter")
            expect(page.locator("#status")).to_contain_text("from confidence")
            expect(page.locator("#run")).to_be_focused()
        if seen[-1] == "DICOM SR" or seen[-1] == "Submission rows":
            break
    wanted = ["files", "sample", "strategy", "run", "level", "width", "invert", "attention", "viewer", "threshold"]
    places = [seen.index(name) for name in wanted]
    assert places == sorted(places), seen
    unnamed = page.evaluate(
        """[...document.querySelectorAll("button, input, select, canvas")].filter((e) => !e.closest("[hidden]")
            && !(e.innerText || e.getAttribute("aria-label") || e.labels?.[0]?.innerText)).map((e) => e.outerHTML)"""
    )
    assert unnamed == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone(open_page, scheme):
    page = open_page(PHONE, color_scheme=scheme, has_touch=True, is_mobile=True)
    page.get_by_role("button", name="Sample phantom").click()
    expect(page.locator("#run")).to_be_enabled()
    run(page)
    set_threshold(page, 0)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground)[:3])) < 200) == (scheme == "dark")
    small = page.evaluate(
        """[...document.querySelectorAll("main button, main select")].filter((e) => e.offsetParent
            && e.getBoundingClientRect().height < 36).map((e) => e.outerHTML)"""
    )
    assert small == []
    page.locator("[data-save=png]").scroll_into_view_if_needed()
    expect(page.get_by_text("Research software, not a medical device")).to_be_in_viewport()


def test_the_reference_of_the_api(open_page):
    page = open_page()
    page.get_by_role("link", name="API").click()
    expect(page.get_by_role("heading", name="POST /api/v1/predict")).to_be_visible()
