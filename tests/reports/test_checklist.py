from covidmm.reports.checklist import CLAIM, ROBERTS, fill


def test_items_are_answered_by_facts_and_open_without():
    items = fill(CLAIM, {"model": "A net.", "task": ""})
    assert len(items) == 42
    assert (items[0].number, items[0].answer) == (1, "A net.")
    assert items[21].answer == "A net."
    assert items[5].answer is None
    assert all(item.answer is None for item in fill(ROBERTS, {}))
