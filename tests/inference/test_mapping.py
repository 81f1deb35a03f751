"""Where the networks run: this process, which reads ahead, torchrun's processes, and the workers of a Dask cluster."""

import json
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from covidmm.datasets.image_folders import read_image_folder
from covidmm.ensembles.ensemble_config import load_ensemble
from covidmm.errors import ConfigError
from covidmm.inference import mapping as module
from covidmm.inference.core import Work
from covidmm.inference.mapping import map_here, read_ahead, sharing
from covidmm.jobs.ensemble import Request, ensemble
from covidmm.jobs.folder_run import FolderRun, predict_members
from covidmm.utils.dask_pool import ClusterMapper, connected
from tests.helpers.torchrun import errors, torchrun

SCRIPT = Path(__file__).with_name("in_two_processes.py")


@pytest.mark.parametrize("count", [0, 1, 3, 20])
@pytest.mark.parametrize("depth", [1, 4])
def test_order_is_kept_and_nothing_is_lost(count, depth):
    assert list(read_ahead(iter(range(count)), depth)) == list(range(count))


def test_an_error_comes_in_its_turn():
    def items():
        yield 1
        yield 2
        raise ValueError("third")

    ahead = read_ahead(items(), 4)
    assert [next(ahead), next(ahead)] == [1, 2]
    with pytest.raises(ValueError, match="third"):
        next(ahead)


def test_no_more_than_the_depth_wait():
    made = []

    def items():
        for number in range(100):
            made.append(number)
            yield number

    ahead = read_ahead(items(), 3)
    next(ahead)
    time.sleep(0.1)
    assert len(made) <= 1 + 3


def test_work_overlaps():
    made = [threading.Event() for _ in range(6)]

    def items():
        for number, event in enumerate(made):
            event.set()
            yield number

    for number in read_ahead(items(), 2):
        # made while this one is at work
        assert made[min(number + 1, 5)].wait(60)


def test_the_thread_ends_with_a_reader_that_stops_early():
    ahead = read_ahead(iter(range(100)), 3)
    next(ahead)
    ahead.close()
    assert not [one for one in threading.enumerate() if one.name.startswith("read-ahead")]


class Naming(Work):
    """Reads names and gives back what was read for each job; notes in which order it did what."""

    def __init__(self):
        self.done = []

    def read(self, job, index):
        self.done.append(job.images[index])
        return job.images[index], None

    def ask(self, job, decoded):
        assert threading.current_thread() is threading.main_thread()
        return [one.entry for one in decoded]


@pytest.mark.parametrize("jobs", [[], ["a"], ["ab", "cd", "e"], ["a", "bcd", "ef"]])
def test_every_job_gets_its_own_images(jobs):
    work = Naming()
    assert list(map_here(work, (SimpleNamespace(images=job) for job in jobs))) == [list(job) for job in jobs]
    assert work.done == list("".join(jobs))
    assert work(SimpleNamespace(images="xyz")) == ["x", "y", "z"]


def test_one_batch_is_read_ahead_and_no_more():
    work = Naming()
    jobs = map_here(work, (SimpleNamespace(images="ab") for _ in range(50)))
    next(jobs)
    time.sleep(0.1)
    assert len(work.done) <= 2 + 2 + 1
    jobs.close()


def in_two(tmp_path, *rounds):
    """How a run of several rounds ended, and what those found that came to an end."""
    ended = torchrun(SCRIPT, tmp_path / "found.json", json.dumps(rounds))
    found = tmp_path / "found.json"
    return ended, json.loads(found.read_text()) if found.exists() else None


def test_one_process_reads_ahead():
    with sharing("none", None, []) as mapping:
        assert mapping is map_here


def test_a_launcher_and_a_scheduler_are_one_too_many():
    with pytest.raises(ConfigError, match="choose one of them"), sharing("pytorch", "tcp://nowhere:1", []):
        pass


@pytest.mark.e2e
def test_two_processes_share_jobs_keep_their_order_and_say_once_what_fails(tmp_path):
    pid = "__import__('os').getpid()"
    ended, answer = in_two(tmp_path, [str(n) for n in range(7)], [], [pid] * 5, ["None"], ["1", "1 / 0", "3"])
    assert ended.returncode == 1, ended.stderr
    assert errors(ended) == ["error: a job failed: division by zero"]
    first, nothing, pids, none = answer["found"]
    assert first == list(range(7))
    assert (nothing, none) == ([], [None])
    assert pids[::2] == [answer["own"]] * 3
    assert pids[1] == pids[3] != answer["own"]
    assert ended.stdout == "hello\n"  # of the first process alone


@pytest.mark.e2e
def test_the_death_of_the_other_process_ends_all_with_one_line(tmp_path):
    ended, _ = in_two(tmp_path, ["1", "__import__('os').kill(__import__('os').getpid(), 9)", "3", "4"])
    assert ended.returncode == 1
    # which of the two comes first: the broken connection, or torchrun's signal
    assert errors(ended) in (
        ["error: another process of this run has ended, and this one with it"],
        ["stopped; run the same command to resume"],
    )


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_folder_predicted_by_a_cluster_one_of_whose_workers_is_killed_has_the_same_bytes(
    random_ensemble, dask_cluster, kill_a_worker, tmp_path
):
    config, cases = load_ensemble(random_ensemble.config), read_image_folder(random_ensemble.raw)
    predict_members(FolderRun(config, cases, tmp_path / "alone"))
    address = dask_cluster.scheduler_address

    def killing(client):
        def mapped(function, jobs):
            for number, result in enumerate(ClusterMapper(client, [random_ensemble.raw])(function, jobs)):
                if number == 1:
                    kill_a_worker(address)
                yield result

        return mapped

    with connected(address) as client:
        run = FolderRun(config, cases, tmp_path / "cluster", mapping=killing(client))
        predict_members(run)
    assert run.fresh == ["frcnn", "yolo"]
    assert contents(tmp_path / "cluster") == contents(tmp_path / "alone")


def test_the_process_that_only_helps_writes_nothing(random_ensemble, tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(module, "serve", lambda: None)
    monkeypatch.setattr("covidmm.engine.launch._check", lambda *_: None)
    monkeypatch.setattr("covidmm.engine.launch._join", lambda *_: None)
    monkeypatch.setattr("torch.distributed.destroy_process_group", lambda: None)
    request = Request(
        str(random_ensemble.config), str(random_ensemble.raw), predictions=str(tmp_path), launcher="pytorch"
    )
    assert ensemble(request) is None
    assert not list(tmp_path.iterdir())
