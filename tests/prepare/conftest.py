"""What the tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from covidmm.prepare.scratch import Scratch


@pytest.fixture
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scratch]:
    with Scratch(tmp_path_factory.mktemp("of_a_test") / "scratch") as opened:
        yield opened
