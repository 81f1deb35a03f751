"""Runs tools as processes of their own, hundreds of times, with a fault in some: a program, called with a pipe.

Importing torch and MMDetection costs a tool seconds, its work on tiny phantoms one. This process imports them once.
For every request it forks a child that is from then on ``python tools/NAME.py ARGUMENTS``: a session, a log and
signal handlers of its own, its end the interpreter's. Nothing of covidmm knows about it.

Requests and answers are lines of JSON, see :class:`tests.helpers.tool_runs.ForkServer`: a request is answered with the
child's id at once, and with how it ended.
"""

from __future__ import annotations

import functools
import gc
import importlib
import json
import os
import resource
import runpy
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any

TOOLS = Path(__file__).resolve().parents[2] / "tools"
PRELOADED = (
    "covidmm.registration",
    "covidmm.jobs.train_test",
    "covidmm.jobs.ensemble",
    "covidmm.audit.full_audit",
    "covidmm.ensembles.single",
    "covidmm.inference",
    "covidmm.engine.config",
    "covidmm.evaluation.metrics_file",
    "covidmm.prepare.pipeline",
    "covidmm.reports.report_page",
    "covidmm.reports.pictures",
    "covidmm.web.server",
    "PIL.JpegImagePlugin",
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_svg",
    "mmdet.apis",
    "mmdet.engine",
    "mmdet.visualization",
    "mmengine.runner",
    "sklearn.metrics",
    "torchvision.models",
    "torch.utils.tensorboard",
    "matplotlib.pyplot",
    "uvicorn",
)
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_NAMED = ("os.rename", "os.remove", "os.mkdir", "os.truncate")
#: Between two looks at the children, the first where one is due for a signal.
_QUICK, _SLOW = 0.0005, 0.01


def serve() -> None:
    """Answer requests until the pipe is closed."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # modules that print do not spoil the answers
    sys.path.insert(0, str(TOOLS.parent))
    for name in PRELOADED:
        importlib.import_module(name)
    _leave_out_what_no_test_compares()
    cpu_target = importlib.import_module("numba.core.registry").cpu_target
    for context in (cpu_target.typing_context, cpu_target.target_context):
        context.refresh()  # imports what the first compiled function needs
    gc.freeze()  # a collection in a child would look through, and copy, all that was imported
    print(json.dumps("ready"), file=answers, flush=True)
    children: dict[int, tuple[float, dict[str, Any]]] = {}
    while True:
        due = any("after" in request for _, request in children.values())
        if select.select([sys.stdin], [], [], (_QUICK if due else _SLOW) if children else None)[0]:
            line = sys.stdin.readline()
            if not line:
                return
            request, started = json.loads(line), time.monotonic()
            child = os.fork()
            if child == 0:
                become(request)
                return
            children[child] = started, request
            print(json.dumps({"started": child}), file=answers, flush=True)
        for child, (started, request) in list(children.items()):
            status = _ended(child, started, request)
            if status is not None:
                del children[child]
                seconds = time.monotonic() - started
                answer = {"ended": child, "code": os.waitstatus_to_exitcode(status), "seconds": seconds}
                print(json.dumps(answer), file=answers, flush=True)


def _leave_out_what_no_test_compares() -> None:
    """Half of a tiny run's seconds are MMEngine's: it formats the config five times, asks for the compiler's version,
    and searches the path for every registered name as if it were a module.
    """
    import mmengine.registry.registry
    import mmengine.runner.runner
    import yapf.yapflib.yapf_api

    yapf.yapflib.yapf_api.FormatCode = lambda text, **_: (text, False)
    mmengine.runner.runner.collect_env = dict
    registry = mmengine.registry.registry
    registry.get_object_from_string = functools.cache(registry.get_object_from_string)


def _ended(child: int, started: float, request: dict[str, Any]) -> int | None:
    """The child's status, None while it runs: then it gets the signal that is due, and SIGKILL after its time."""
    pid, status = os.waitpid(child, os.WNOHANG)
    if pid:
        return status
    passed = time.monotonic() - started
    if passed >= request.get("after", float("inf")):
        _send(child, request["signal"], request.get("group", False))
        del request["after"]
    if passed >= request["timeout"]:
        _send(child, signal.SIGKILL, group=True)
    return None


def _send(child: int, number: int, group: bool) -> None:
    try:
        (os.killpg if group else os.kill)(child, number)
    except ProcessLookupError:  # it has no group of its own yet
        os.kill(child, number)


def become(request: dict[str, Any]) -> None:
    """Turn this forked process into the tool; raises what the tool raises, SystemExit as a rule.

    ``over`` names a file that then holds the exit code: what comes later befalls an interpreter that shuts down.
    """
    os.setsid()
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    empty = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((empty, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    tool = TOOLS / request["tool"]
    sys.path.insert(0, str(TOOLS))
    sys.argv = [str(tool), *request["arguments"]]
    _arm(request)
    try:
        runpy.run_path(str(tool), run_name="__main__")
    except SystemExit as end:
        Path(request["over"]).write_text(str(end.code))
        raise


def _arm(request: dict[str, Any]) -> None:
    """Put the fault in its place.

    ``write_limit``: the kernel ends a file at so many bytes; ``write_kills`` says whether that kills the process, in
    the middle of a write, or is an error. ``event``: at the n-th change of a file in ``folder`` the process gets
    ``signal``, or the change fails with ``errno``, and so does every later one where ``lasting``.
    """
    if "write_limit" in request:
        kills = request["write_kills"]
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL if kills else signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["write_limit"], request["write_limit"]))
    if "folder" not in request:
        return
    count, me = 0, os.getpid()
    counted = os.open(request["events"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def watch(event: str, details: tuple[Any, ...]) -> None:
        nonlocal count
        path = _changed(event, details, request["folder"])
        if path is None or os.getpid() != me:
            return
        count += 1
        os.write(counted, f"{event} {path}\n".encode())
        due = request.get("event")
        if due is None or count < due or (count > due and not request.get("lasting")):
            return
        if "errno" in request:
            raise OSError(request["errno"], os.strerror(request["errno"]), path)
        os.kill(me, request["signal"])

    sys.addaudithook(watch)


def _changed(event: str, details: tuple[Any, ...], folder: str) -> str | None:
    """The file in ``folder`` that an audit event is about to change, None where it changes none."""
    if event != "open" and event not in _NAMED:
        return None
    path = details[0]
    if event == "open" and not details[2] & _WRITES:
        return None
    if not isinstance(path, str | bytes | os.PathLike):
        return None
    text = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - resolves no link, raises no event
    return text if text.startswith(folder) else None


if __name__ == "__main__":
    serve()
