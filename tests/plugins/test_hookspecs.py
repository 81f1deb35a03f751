import inspect
from pathlib import Path

import pytest

from covidmm.plugins import hookspecs

HOOKS = [f for n, f in vars(hookspecs).items() if n.startswith("covidmm_")]


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook.__name__)
def test_every_hook_is_documented_and_tested(hook):
    assert "Returns:" in inspect.getdoc(hook)
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    assert f"covidmm.plugins.hookspecs.{hook.__name__}" in tests or tests.count(hook.__name__) > 1


def test_there_are_two_questions():
    assert {hook.__name__ for hook in HOOKS} == {"covidmm_ensemble_strategies", "covidmm_study_classifiers"}
