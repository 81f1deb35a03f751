from covidmm.audit.checks import Level, worst


def test_levels_are_ordered_and_named():
    assert [level.label for level in sorted(Level)] == ["ok", "warning", "FAULT"]
    assert worst([Level.WARNING, Level.FAULT, Level.OK]) is Level.FAULT
    assert worst([]) is Level.OK
