"""Every tool's tiny job, run once without a fault."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.trials import small_disk
from tests.faults.workloads import Bench


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    made = Bench(tmp_path_factory.mktemp("bench"))
    yield made
    made.close()


@pytest.fixture(scope="session")
def _mounts(tmp_path_factory: pytest.TempPathFactory) -> None:
    try:
        with small_disk(tmp_path_factory.mktemp("disk"), 4096):
            pass
    except (OSError, FileNotFoundError) as error:
        pytest.skip(str(error))
