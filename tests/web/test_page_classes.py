"""The page in a browser, of a server whose ensemble finds several classes."""

import re

import pytest

from covidmm.web.web_pictures import class_looks
from tests.web.test_page import PHONE, expect, run, upload

pytestmark = pytest.mark.e2e
VINDR = (
    *("Aortic enlargement", "Atelectasis", "Calcification", "Cardiomegaly", "Consolidation", "ILD", "Infiltration"),
    *("Lung Opacity", "Nodule/Mass", "Other lesion", "Pleural effusion", "Pleural thickening", "Pneumothorax"),
    "Pulmonary fibrosis",
)
ODD = (
    '<b>&"',
    "<img src=x onerror=alert(1)>",
    "Épanchement pleural",
    "胸腔积液",
    "Donaudampfschifffahrts" * 3,
    "a",
    "b",
    "c",
)


def finds(page, names):
    """The page with a server whose ensemble finds these classes: box k of an image of any detector is of class k."""

    def models(route):
        response = route.fetch()
        looks = [look.model_dump() for look in class_looks(names)]
        route.fulfill(response=response, json={**response.json(), "classes": list(names), "looks": looks})

    def predict(route):
        response = route.fetch()
        found = response.json()
        for image in found["images"]:
            for boxes in (image["fused"], *image["members"].values()):
                for place, name in enumerate(names[: 2 + 4 * image["number"]]):
                    side = {"x": 30 + 45 * (place % 7), "y": 30 + 60 * (place // 7) + 20 * image["number"]}
                    boxes[place:] = [{"name": name, "score": 0.9 - place / 50, "width": 35, "height": 30, **side}]
        route.fulfill(response=response, json=found)

    page.route("**/api/v1/models", models)
    page.route("**/api/v1/predict?*", predict)
    page.reload()
    expect(page.locator("#legend li")).to_have_count(len(names))


def switch(page, name):
    return page.locator("#legend label").filter(has=page.get_by_text(name, exact=True)).get_by_role("checkbox")


def shown_names(page):
    return [row.split("\t")[1].strip() for row in page.locator("#boxes tbody tr").all_inner_texts() if "\t" in row]


def test_classes_have_a_legend_and_a_switch_each_which_is_kept(open_page, files):
    page = open_page()
    expect(page.locator("#legend")).to_be_hidden()  # of one class
    expect(page.get_by_role("heading", name="Opacities")).to_be_visible()
    finds(page, VINDR)
    expect(page.get_by_role("heading", name="Findings")).to_be_visible()
    page.set_input_files(
        "#files", [{"name": f"{n}.dcm", "mimeType": "", "buffer": one} for n, one in enumerate(files[:2])]
    )
    run(page)
    assert shown_names(page) == list(VINDR[:6])
    counts = page.locator("#legend .count").all_inner_texts()
    assert counts == ["1"] * 6 + ["0"] * 8
    before = page.locator("#viewer").screenshot()
    switch(page, "Calcification").uncheck()
    assert shown_names(page) == [name for name in VINDR[:6] if name != "Calcification"]
    expect(page.locator("#legend p")).to_have_text("1 box of hidden classes")
    while page.locator("#viewer").screenshot() == before:  # until it is drawn
        page.wait_for_timeout(50)
    page.get_by_role("button", name="1.dcm").click()
    assert shown_names(page) == [name for name in VINDR[:10] if name != "Calcification"]
    with page.expect_response("**/predict?*"):
        run(page)
    expect(page.get_by_role("button", name="Run")).to_be_visible()
    expect(switch(page, "Calcification")).not_to_be_checked()
    with page.expect_request("**/picture?*") as asked, page.expect_response("**/picture?*"):
        page.locator("[data-save=png]").click()
    assert "hidden=Calcification" in asked.value.url
    # by keyboard
    page.get_by_role("button", name="Hide all classes").focus()
    page.keyboard.press("Enter")
    assert shown_names(page) == []
    expect(page.locator("#boxes tbody")).to_have_text("Hidden classes alone")
    switch(page, "Cardiomegaly").focus()
    page.keyboard.press("Space")
    expect(page.locator("#viewer")).to_have_attribute("aria-label", re.compile("1 boxes shown"))
    assert shown_names(page) == ["Cardiomegaly"]
    page.get_by_role("button", name="Show all classes").focus()
    page.keyboard.press("Space")
    assert shown_names(page) == list(VINDR[:10])


@pytest.mark.parametrize(("size", "scheme"), [((1280, 800), "light"), (PHONE, "dark")])
@pytest.mark.parametrize("names", [VINDR[:6], (*VINDR, *ODD)])
def test_any_names_of_classes_fit_the_page_as_text(open_page, size, scheme, names):
    page = open_page(size, color_scheme=scheme)
    finds(page, names)
    upload(page)
    run(page)
    page.get_by_role("button", name="Show all classes").click()
    for name in names:
        expect(switch(page, name)).to_be_checked()
    assert page.locator("#legend b, #legend img, #boxes b, #boxes img").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") == size[0]
    wide = page.evaluate(
        """[...document.querySelectorAll("#legend *")].filter((e) => e.getBoundingClientRect().right
            > document.querySelector("#found").getBoundingClientRect().right).map((e) => e.outerHTML)"""
    )
    assert wide == []
    pictures = page.evaluate("[...document.querySelectorAll('#legend .key')].map((e) => e.outerHTML)")
    assert len(set(pictures)) == len(names)
