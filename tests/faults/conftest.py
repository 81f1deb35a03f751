"""Every tool's tiny job, run once without a fault."""

from __future__ import annotations

import pytest

from tests.faults.trials import small_disk
from tests.faults.workloads import Bench
from tests.helpers.tool_runs import shared_server


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("bench"), shared_server())


@pytest.fixture(scope="session")
def _mounts(tmp_path_factory: pytest.TempPathFactory) -> None:
    try:
        with small_disk(tmp_path_factory.mktemp("disk"), 4096):
            pass
    except (OSError, FileNotFoundError) as error:
        pytest.skip(str(error))
