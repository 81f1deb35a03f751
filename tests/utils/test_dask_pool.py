"""A real Dask scheduler and two worker processes. ``eval`` is the job function, as in ``test_pool.py``."""

import os
import shutil

import pytest

from covidmm.errors import ClusterError, ConfigError
from covidmm.prepare import pipeline as preparation
from covidmm.prepare.options import Options
from covidmm.prepare.pipeline import prepare
from covidmm.utils import dask_pool as cluster
from covidmm.utils.dask_pool import ClusterMapper, connected, run_on_cluster
from covidmm.utils.pool import WorkerCrashedError, run_each

DIE = "__import__('os').abort()"
PID = "(__import__('time').sleep(0.02), __import__('os').getpid())[1]"


@pytest.fixture(scope="module")
def address(dask_cluster):
    return dask_cluster.scheduler_address


@pytest.fixture(scope="module")
def client(address):
    with connected(address) as found:
        yield found


def contents(out):
    paths = (path for path in out.rglob("*") if path.is_file() and ".journal" not in path.parts)
    return {str(path.relative_to(out)): path.read_bytes() for path in paths}


def test_two_other_processes_do_every_job_once(client):
    found = list(run_on_cluster(client, eval, [PID] * 30))
    assert sorted(number for number, _, _ in found) == list(range(30))
    pids = {outcome for _, _, outcome in found}
    assert len(pids) == 2
    assert os.getpid() not in pids


def test_an_error_is_an_outcome(address):
    outcomes = dict(run_each(eval, ["1 / 0", "2"], 1, address))
    assert isinstance(outcomes["1 / 0"], ZeroDivisionError)
    assert outcomes["2"] == 2


def test_results_come_in_the_order_of_the_jobs_and_jobs_are_drawn_as_they_are_needed(client):
    drawn = []

    def jobs():
        for number in range(40):
            drawn.append(number)
            # the first of four is the slowest
            yield f"(__import__('time').sleep({0.05 if number % 4 == 0 else 0}), {number})[1]"

    results = ClusterMapper(client)(eval, jobs())
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    assert len(drawn) < 20
    assert list(results) == list(range(3, 40))


def test_a_killed_worker_costs_no_job(client, address, kill_a_worker):
    results = run_on_cluster(client, eval, [PID] * 100)
    found = [next(results)[0] for _ in range(5)]
    kill_a_worker(address)
    found += [number for number, _, outcome in results if isinstance(outcome, int)]
    assert sorted(found) == list(range(100))


def test_prepared_with_a_worker_killed_in_the_middle_the_bytes_are_those_of_local_workers(
    make, tmp_path, address, kill_a_worker, monkeypatch
):
    raw = make.siim(tmp_path / "raw", 30)
    prepare("siim", raw, tmp_path / "local", Options(workers=1, progress=False))

    def kill_at_five(*arguments):
        for number, pair in enumerate(run_each(*arguments)):
            if number == 5:
                kill_a_worker(address)
            yield pair

    monkeypatch.setattr(preparation, "run_each", kill_at_five)
    summary = prepare("siim", raw, tmp_path / "cluster", Options(scheduler=address, progress=False))
    assert summary.written == 31
    assert contents(tmp_path / "cluster") == contents(tmp_path / "local")


def test_only_the_job_that_kills_every_worker_is_lost(address):
    jobs = [str(number) for number in range(6)]
    outcomes = dict(run_each(eval, [*jobs[:3], DIE, *jobs[3:]], 1, address))
    assert isinstance(outcomes.pop(DIE), WorkerCrashedError)
    assert outcomes == {job: int(job) for job in jobs}


def test_workers_are_like_this_process(client, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COVIDMM_CHECKPOINTS", "elsewhere")
    job = "__import__('os').getcwd(), __import__('os').environ['COVIDMM_CHECKPOINTS']"
    assert list(ClusterMapper(client)(eval, [job])) == [(str(tmp_path), "elsewhere")]


def test_a_folder_that_a_worker_does_not_see_is_told_before_any_job(client, tmp_path):
    shutil.rmtree(tmp_path)
    with pytest.raises(ClusterError, match=f"does not see {tmp_path}: all machines need the same files"):
        list(run_on_cluster(client, eval, ["1"], [tmp_path]))


@pytest.mark.parametrize("disturbed", [1, 100])
def test_a_greeting_that_comes_with_other_news_is_asked_for_again(address, monkeypatch, disturbed):
    tries = iter(range(disturbed))

    def client(*arguments, **options):
        assert next(tries, None) is None
        return Client(*arguments, **options)

    Client = cluster.Client
    monkeypatch.setattr(cluster, "Client", client)
    if disturbed == 1:
        assert dict(run_each(eval, ["2"], 1, address)) == {"2": 2}
    else:
        with pytest.raises(ClusterError, match="no Dask scheduler answers there"):
            list(run_each(eval, ["2"], 1, address))


def test_another_version_is_told(client, monkeypatch):
    monkeypatch.setattr(cluster.covidmm, "__version__", "0.0.0")
    with pytest.raises(ClusterError, match=r"has covidmm .*, not 0\.0\.0"):
        list(run_on_cluster(client, eval, ["1"]))


def test_no_scheduler_and_no_address_are_told(monkeypatch):
    monkeypatch.setattr(cluster, "_ANSWER", 0.3)
    with pytest.raises(ClusterError, match=r"tcp://127\.0\.0\.1:9: no Dask scheduler answers"):
        list(run_each(eval, ["1"], 1, "tcp://127.0.0.1:9"))
    with pytest.raises(ConfigError, match="expected an address such as"):
        list(run_each(eval, ["1"], 1, "nothing://x"))


def test_a_cluster_without_workers_is_given_up(monkeypatch):
    from distributed import LocalCluster

    monkeypatch.setattr(cluster, "_WITHOUT_WORKERS", 0)
    monkeypatch.setattr(cluster, "_POLL", 0.2)
    with (
        LocalCluster(n_workers=0, dashboard_address=":0", processes=True) as empty,
        pytest.raises(ClusterError, match="has had no worker"),
    ):
        list(run_each(eval, ["1"], 1, empty.scheduler_address))


def test_a_worker_of_several_threads_is_refused():
    from distributed import LocalCluster

    with (
        LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address=":0", processes=False) as threads,
        pytest.raises(ClusterError, match="runs 2 threads in one process: start it with --nthreads 1"),
    ):
        list(run_each(eval, ["1"], 1, threads.scheduler_address))
