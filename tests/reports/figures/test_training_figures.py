from pathlib import Path

import pytest

from covidmm.reports.figures.training_figures import loss_figure, training_figures
from covidmm.reports.runs import Run


def run(train=(), val=()):
    return Run("a", Path(), train=train, val=val)


def test_losses_are_means_of_their_epoch():
    train = [{"lr": 1.0, "loss": value, "epoch": 1 + k // 2, "step": k} for k, value in enumerate((4.0, 2.0, 1.0, 0.0))]
    drawn = loss_figure(run(train, [{"val_loss": 0.5, "val_loss_cls": 0.25, "step": 2}]))
    assert drawn.columns == ("epoch", "train_loss", "train_loss_cls", "val_loss", "val_loss_cls")
    assert drawn.rows == [(1, 3.0, "", "", ""), (2, 0.5, "", 0.5, 0.25)]


def test_a_run_that_just_began_has_what_there_is():
    assert training_figures(run()) == []
    only = training_figures(run([{"lr": 0.1, "loss": 1.0, "epoch": 1, "step": 10}]))
    assert [one.name for one in only] == ["lr_a", "losses_a"]
    assert only[1].caption == "There is no validation loss yet."


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None])
def test_a_diverged_run_is_drawn_without_its_numbers(value):
    lines = [{"lr": 0.1, "loss": value, "epoch": 1, "step": 1}]
    assert [one.name for one in training_figures(run(lines, [{"detection/f1": value, "step": 1}]))] == ["lr_a"]


def test_metrics_are_drawn_and_all_of_them_are_in_the_numbers():
    val = [{"study/mAP": 0.1 * epoch, "study/ece": 0.2, "step": epoch} for epoch in (1, 2)]
    (drawn,) = training_figures(run(val=val))
    assert drawn.columns == ("epoch", "study/mAP", "study/ece")
    assert [row[1] for row in drawn.rows] == [pytest.approx(0.1), pytest.approx(0.2)]
    assert drawn.caption == ""
