import hashlib
import json

import pytest

from covidmm.audit.checks import Level, worst
from covidmm.audit.full_audit import audit, check_manifests
from covidmm.errors import ConfigError, DataError
from tests.helpers.tool_runs import ROOT, run_tool

pytestmark = pytest.mark.e2e  # whole audits


def levels(checks):
    return {check.name.split()[0]: check.level for check in checks if check.level}


def test_a_clean_set_raises_nothing(clean, tmp_path):
    checks = audit([clean], tmp_path / "out", progress=False)
    assert levels(checks) == {}
    assert [check.name for check in checks] == [
        "images", "manifest", "splits", "duplicates", "labels",
        "headers clean", "border clean", "blur clean", "markers clean",
    ]  # fmt: skip


def test_planted_leaks_copies_and_flips_are_found_and_nothing_else(planted, tmp_path):
    folder, (study, images, flipped) = planted("splits", "duplicates", "labels")
    checks = audit([folder], tmp_path / "out", progress=False)
    assert levels(checks) == dict.fromkeys(("splits", "duplicates", "labels"), Level.FAULT)
    tables = {table.name: table.rows for check in checks for table in check.tables}
    assert ("study", "planted", study) in {row[:3] for row in tables["leaks"]}
    (pair,) = tables["duplicates"]
    assert {pair[5], pair[9]} == set(images)
    assert flipped in {row[3] for row in tables["conflicts"]}


def test_planted_markers_and_headers_are_found_and_nothing_else(planted, tmp_path):
    folder, _ = planted("markers", "headers")
    found = levels(audit([folder], tmp_path / "out", progress=False))
    assert found.pop("markers") >= Level.WARNING
    assert found == dict.fromkeys(("border", "headers"), Level.FAULT)


def test_damaged_images_are_a_fault_and_the_rest_goes_on(planted, plants, tmp_path):
    folder, _ = planted("labels")
    names = [image["file_name"] for image in plants.annotations(folder)["val"]["images"]]
    (folder / "images" / names[0]).unlink()
    (folder / "images" / names[1]).write_bytes(b"")
    checks = audit([folder], tmp_path / "out", progress=False)
    assert levels(checks) == {"images": Level.FAULT, "labels": Level.FAULT}
    assert [row[1] for row in checks[0].tables[0].rows] == sorted(names[:2], key=names.index)


def test_predictions_belong_to_one_folder(clean, tmp_path):
    with pytest.raises(ConfigError, match="one prepared folder"):
        audit([clean, clean], tmp_path / "out", predictions=tmp_path / "a.json")
    with pytest.raises(ConfigError, match="--classifier"):
        audit([clean, clean], tmp_path / "out", classifier=("a.py", "a.pth"))
    with pytest.raises(ConfigError, match="together with --predictions"):
        audit([clean], tmp_path / "out", threshold=0.5)
    assert not (tmp_path / "out").exists()


def test_no_image_at_all_is_an_error(planted, tmp_path):
    folder, _ = planted("labels")
    (folder / "images").rename(folder / "elsewhere")
    with pytest.raises(DataError, match="no image can be read"):
        audit([folder], tmp_path / "out", progress=False)


@pytest.mark.e2e
def test_the_tool_says_by_its_exit_code_what_it_found(clean, planted, plants, tmp_path):
    def run(*arguments):
        # workers of a checkout that is not the installed one
        return run_tool("audit.py", "--workers", 1, *arguments, cwd=str(tmp_path), env={"PYTHONPATH": str(ROOT)})

    test = plants.annotations(clean)["test"]
    found = [{**one, "score": 0.9} for one in test["annotations"]]
    (tmp_path / "found.json").write_text(json.dumps(found))
    good = run(clean, "--predictions", tmp_path / "found.json")
    assert good.code == 0, good.output
    assert "subgroups" in good.output
    assert (tmp_path / "audit" / "subgroups.csv").is_file()
    digest = hashlib.sha256((tmp_path / "found.json").read_bytes()).hexdigest()
    assert json.loads((tmp_path / "audit/audit.json").read_text())["predictions"]["sha256"] == digest
    assert digest in (tmp_path / "audit/audit.html").read_text()
    folder, _ = planted("splits")
    bad = run(folder, "--out", "bad")
    assert (bad.code, "FAULT    splits" in bad.output) == (2, True)
    assert json.loads((tmp_path / "bad" / "audit.json").read_text())["level"] == "FAULT"
    (tmp_path / "empty").mkdir()
    wrong = run("empty")
    assert (wrong.code, wrong.output.count("\n")) == (1, 1)


@pytest.mark.realdata
def test_the_overlap_of_nih_and_rsna_is_found(realdata, make, tmp_path):
    from covidmm.prepare.options import Options
    from covidmm.prepare.pipeline import prepare

    folders = []
    for layout in ("rsna", "nih"):
        folders.append(tmp_path / layout)
        options = Options(max_size=288, negatives=True, progress=False)
        prepare(layout, realdata / f"{layout}-mini", folders[-1], options)
    checks = audit(folders, tmp_path / "out", progress=False)
    assert worst([check.level for check in checks]) is Level.FAULT
    source = make.provenance(realdata / "rsna-mini/provenance.csv")
    (check,) = [check for check in checks if check.name == "duplicates"]
    across = {(row[5], row[9]) for row in check.tables[0].rows if row[2] != row[6]}
    assert across == {(one, other) for one, other in across if source[one].removesuffix(".png") == other}
    assert len(across) == 90


@pytest.mark.parametrize(("content", "cause"), [(None, "no such file"), ('{"layout": "si', "no JSON with")])
def test_a_folder_without_a_whole_manifest_is_a_warning(tmp_path, content, cause):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder, text in ((whole, '{"data_sha256": "abc"}'), (cut, content)):
        folder.mkdir()
        if text is not None:
            (folder / "prepared.json").write_text(text)
    check = check_manifests([whole, cut])
    assert check.level is Level.WARNING
    assert cause in check.summary
    assert [row[0] for row in check.tables[0].rows] == ["cut"]
    assert check_manifests([whole]).level is Level.OK


def test_a_folder_that_nobody_prepared_is_judged_in_its_own_splits(tmp_path, make):
    """What prepare would put right, the audit shows: a picture in two splits under two names, and one in both lists."""
    lists = {"train": ("a", "b", "c"), "test": ("d", "e", "c")}
    for seed, name in enumerate("abcde"):
        make.png(tmp_path / "x/pictures" / f"{name}.png", seed)
    (tmp_path / "x/pictures/d.png").write_bytes((tmp_path / "x/pictures/a.png").read_bytes())
    for split, names in lists.items():
        images = [{"id": number, "file_name": f"{name}.png"} for number, name in enumerate(names)]
        content = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "mass"}]}
        (tmp_path / "x" / f"{split}.json").write_text(json.dumps(content))
    before = sorted((tmp_path / "x").rglob("*"))
    checks = {check.name: check for check in audit([tmp_path / "x"], tmp_path / "out", progress=False)}
    assert (checks["duplicates"].level, checks["duplicates"].numbers["where"]) == (Level.FAULT, {"across splits": 1})
    assert (checks["reading"].level, checks["reading"].numbers["skipped"]) == (Level.FAULT, 1)
    assert "another split: test and train" in checks["reading"].tables[0].rows[0][-1]
    assert checks["manifest"].summary == "not judged: no folder is prepared"
    assert sorted((tmp_path / "x").rglob("*")) == before
    (tmp_path / "x/test.json").unlink()
    checks = {check.name: check for check in audit([tmp_path / "x"], tmp_path / "out", progress=False)}
    assert checks["splits"].summary.startswith("not judged: no data set has two splits (3 images name no patient)")
    results = [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}]
    (tmp_path / "found.json").write_text(json.dumps(results))
    with pytest.raises(ConfigError, match="is not prepared"):
        audit([tmp_path / "x"], tmp_path / "out", predictions=tmp_path / "found.json", progress=False)
