"""The long forms of what ``make test`` tries in short: ``make test-long``. Prints a table; exit code 1 on a finding.

python -m tests.stress.long [--mutants 10000] [--requests 2000] [--kills 50] [--seed 0] [--keep DIR]
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastapi.testclient import TestClient

from covidmm import radiograph
from covidmm.errors import RadiographError
from covidmm.inference import Predictor
from covidmm.radiograph.sandbox import IsolatedReader
from covidmm.web.app import create_app
from covidmm.web.service import Service
from tests.corpus.entries import entries, write_corpus
from tests.corpus.mutants import mutants, read_mutants
from tests.helpers.random_models import write_ensemble
from tests.stress import reproduce
from tests.stress.kills import run_long

Row = tuple[str, str, bool]


def corpus_row() -> Row:
    """Every entry of the corpus, by ``radiograph.read`` and ``read_header``."""
    tried = good = 0
    with tempfile.TemporaryDirectory() as folder:
        for path, entry in write_corpus(Path(folder)).items():
            if entry.name == "unreadable.dcm":
                continue  # root can read it; make test tries both users
            for function, expected in (
                (radiograph.read, entry.expected),
                (radiograph.read_header, entry.expected_header),
            ):
                try:
                    function(path)
                    found = None
                except RadiographError as error:
                    found = str(error)
                tried += 1
                right = found is None if expected is None else found is not None and expected in found
                good += right
                if not right:
                    print(f"corpus: {entry.name}: {found!r}, expected {expected!r}", file=sys.stderr)
    return "corpus entries, read and header", f"{good} of {tried} as expected", good == tried


def mutants_row(count: int, seed: int, keep: Path | None) -> Row:
    """Mutants in a child process."""
    tally = read_mutants(count, seed, keep)
    for name, end in tally.findings.items():
        print(f"mutants: {name}: {end}", file=sys.stderr)
    ends = tally.ends
    words = {
        "image": "images",
        "refused": "refused",
        "crash": "crashes",
        "hang": "hangs",
        "out of memory": "over 2 GiB",
    }
    shown = ", ".join(f"{ends[end]} {word}" for end, word in words.items())
    return "mutants of valid files", f"{count} tried: {shown}", not tally.findings


def requests_row(count: int, seed: int) -> Row:
    """The corpus and mutants, uploaded to the server."""
    statuses: Counter[int] = Counter()
    with _client() as client:
        corpus = ((entry.name, entry.content) for entry in entries() if entry.content is not None)
        for name, content in itertools.islice(itertools.chain(corpus, mutants(count, seed + 1)), count):
            answer = client.post("/api/v1/predict", files=[("files", (name, content))])
            statuses[answer.status_code] += 1
            if answer.status_code >= 500:
                print(f"requests: {name}: {answer.status_code} {answer.text[:200]}", file=sys.stderr)
    failed = sum(number for status, number in statuses.items() if status >= 500)
    shown = ", ".join(f"{number} x {status}" for status, number in sorted(statuses.items()))
    return "requests with bad files", f"{sum(statuses.values())} tried: {shown}; {failed} of 5xx", not failed


def kills_rows(count: int, seed: int) -> list[Row]:
    """Every tool killed, and the next run compared with an undisturbed one."""
    rows, problems = run_long(count, others=1, seed=seed)
    for problem in problems:
        print(f"kills: {problem}", file=sys.stderr)
    return [
        (
            f"kills and faults of {row.tool}",
            f"{row.recovered.total()} of {row.tried.total()} recovered identically",
            row.tried == row.recovered,
        )
        for row in rows
    ]


def reproduced_row() -> Row:
    """Every small config trained twice, and resumed."""
    compared, differing = reproduce.run()
    for one in differing:
        print(f"reproduced: {one}: ends otherwise", file=sys.stderr)
    good = compared - len(differing)
    return "small configs, trained again and resumed", f"{good} of {compared} identical to the last bit", not differing


@contextmanager
def _client() -> Iterator[TestClient]:
    """The application on the smallest models with random weights, in this process."""
    with tempfile.TemporaryDirectory() as folder, IsolatedReader(20, 4 * 2**30) as reader:
        service = Service(Predictor.from_config(write_ensemble(Path(folder)), device="cpu"), reader)
        yield TestClient(create_app(service), raise_server_exceptions=False)


def main() -> int:
    """Run everything and print the table."""
    parser = argparse.ArgumentParser(description="The long forms of the tests of bad files and faults.")
    parser.add_argument("--mutants", type=int, default=10_000, help="default %(default)s")
    parser.add_argument("--requests", type=int, default=2_000, help="default %(default)s")
    parser.add_argument(
        "--kills", type=int, default=50, help="of every tool (default %(default)s); 0 leaves trainings out, too"
    )
    parser.add_argument("--seed", type=int, default=0, help="draws all of them (default %(default)s)")
    parser.add_argument("--keep", type=Path, help="folder for the files of mutants that crash or hang")
    args = parser.parse_args()
    if args.keep:
        args.keep.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    rows = [corpus_row(), mutants_row(args.mutants, args.seed, args.keep), requests_row(args.requests, args.seed)]
    if args.kills:
        rows += [*kills_rows(args.kills, args.seed), reproduced_row()]
    print("| what | result |\n|---|---|")
    print(*(f"| {what} | {result} |" for what, result, _ in rows), sep="\n")
    print(f"{time.monotonic() - started:.0f} s")
    return 0 if all(good for _, _, good in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
