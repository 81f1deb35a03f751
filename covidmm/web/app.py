"""The application: its routes, and the two threads that decode and predict."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import prometheus_client
from fastapi import FastAPI, Query, Request
from fastapi.responses import FileResponse, Response

import covidmm
from covidmm.errors import CovidmmError, PluginError
from covidmm.radiograph import Radiograph
from covidmm.reports import NOTICE
from covidmm.web import problems, schemas, telemetry
from covidmm.web.problems import CLIENT_LEFT, ProblemError
from covidmm.web.queue import JobQueue, QueueFullError
from covidmm.web.service import ENSEMBLE, Question, Service
from covidmm.web.uploads import Limits, Receiver, Upload
from covidmm.web.web_pictures import PREVIEW_SIZE, View, annotated, class_looks, colours, preview, sample_file

if TYPE_CHECKING:
    from covidmm.web.dicom_node import DicomNode

STATIC = Path(__file__).with_name("static")
_FILES = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["files"],
                    "properties": {
                        "files": {
                            "type": "array",
                            "minItems": 1,
                            "items": {"type": "string", "format": "binary"},
                            "description": "DICOM, PNG, JPEG or TIFF: the images of one study.",
                        }
                    },
                }
            }
        },
    }
}
_BAD_FILES = problems.responses(400, 408, 413, 415, 422, 503)
_Detector = Annotated[str, Query(description="A detector, or 'ensemble'.")]
_Strategy = Annotated[str | None, Query(description="How boxes are fused; the config's where it is left out.")]
_Attention = Annotated[bool, Query(description="Whether to compute Grad-CAM maps.")]
_Threshold = Annotated[float, Query(ge=0, le=1, description="Boxes of lower scores are left out.")]
_Deidentify = Annotated[bool, Query(description="Whether patient and study attributes are left out, UIDs replaced.")]
_Fused = Annotated[bool, Query(description="Whether the boxes of the detector or ensemble are drawn.")]
_Members = Annotated[list[str], Query(description="Members of the ensemble whose own boxes are drawn, too.")]
_Hidden = Annotated[list[str], Query(description="Classes whose boxes are not drawn.")]
_Level = Annotated[float, Query(ge=0, le=255, description="The grey value that becomes middle grey.")]
_Width = Annotated[float, Query(ge=2, le=510, description="Grey values between black and white.")]
_Invert = Annotated[bool, Query(description="Whether black and white are exchanged.")]


@dataclass(frozen=True)
class Settings:
    """Settings of the operator.

    Attributes:
        limits: of uploads.
        queue_size: requests that wait or are worked on, for decoding and for prediction each.
    """

    limits: Limits = field(default_factory=Limits)
    queue_size: int = 16


class Dispatcher:
    """What all requests share: one thread that decodes, one that predicts, and the bytes that are being received."""

    def __init__(self, service: Service, settings: Settings) -> None:
        self.service = service
        self.receiver = Receiver(settings.limits)
        self.queues = {stage: JobQueue(stage, settings.queue_size) for stage in ("decode", "predict")}
        self.metrics = telemetry.Metrics(self.queues)
        self.node: DicomNode | None = None

    async def run(self, request: Request, stage: str, job: Callable, *arguments: Any) -> Any:
        """The result of a job in the thread of a stage.

        Raises:
            ProblemError: the queue is full, the files are bad, or the client left: what has not begun is not done.
        """
        with _problems():
            future = self.queues[stage].submit(self.metrics.timed(stage, job), *arguments)
            return await _unless_left(request, future)

    def close(self) -> None:
        """Answer what the DICOM node has received, then stop the threads and the decoder."""
        if self.node is not None:
            self.node.close()
        for queue in self.queues.values():
            queue.close()
        self.service.reader.close()


@contextmanager
def _problems():
    try:
        yield
    except QueueFullError as full:
        detail = "The server is busy; try again shortly."
        raise ProblemError(503, detail, {"Retry-After": str(full.retry_after)}) from None
    except PluginError as error:  # of the server, whatever was sent
        raise ProblemError(500, " ".join(str(error).split())) from None
    except CovidmmError as error:
        raise ProblemError(422, " ".join(str(error).split())) from None


async def _unless_left(request: Request, future: Future) -> Any:
    result, left = asyncio.wrap_future(future), asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({result, left}, return_when=asyncio.FIRST_COMPLETED)
        if not result.done():
            result.cancel()
            raise ProblemError(CLIENT_LEFT, "The client left.")
        return result.result()
    finally:
        left.cancel()


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def create_app(service: Service, settings: Settings | None = None) -> FastAPI:
    """The application.

    Args:
        service: what it offers.
        settings: the defaults where None.
    """
    settings = settings or Settings()
    dispatcher = Dispatcher(service, settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        dispatcher.close()

    app = FastAPI(
        title="covidmm",
        version=covidmm.__version__,
        description=f"Findings and study classes on chest radiographs. {NOTICE}",
        docs_url=None,  # FastAPI's page loads scripts from another host
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.dispatcher = dispatcher
    problems.install(app)
    telemetry.install(app, dispatcher.metrics)
    _add_information(app, dispatcher, settings)
    _add_work(app, dispatcher)
    _add_page(app)
    return app


def _add_information(app: FastAPI, dispatcher: Dispatcher, settings: Settings) -> None:
    service = dispatcher.service

    @app.get("/api/v1/models", summary="What the server offers", tags=["models"])
    async def models() -> schemas.Models:
        return schemas.Models(
            version=covidmm.__version__,
            config=service.predictor.config.path.name,
            choices=[schemas.Choice(name=name, detectors=members) for name, members in service.choices.items()],
            strategies=service.strategies,
            classes=list(service.predictor.classes.names),
            study_classes=list(service.predictor.study_labels.names) if service.predictor.classifier else [],
            colours=colours(list(service.predictor.detectors)),
            looks=class_looks(service.predictor.classes.names),
            attention=service.explainer is not None,
            structured_report=service.reports,
            max_upload_bytes=settings.limits.request_bytes,
            max_files=settings.limits.files,
            provenance=service.provenance(service.predictor.config),
        )

    @app.get("/api/v1/sample", summary="A phantom radiograph", tags=["models"], response_class=Response)
    async def sample() -> Response:
        return Response(sample_file(), media_type="application/dicom")

    @app.get("/healthz", summary="Whether the server is up", tags=["operation"])
    async def health() -> schemas.Health:
        return schemas.Health()

    @app.get("/metrics", summary="Numbers for Prometheus", tags=["operation"], response_class=Response)
    async def metrics() -> Response:
        text = prometheus_client.generate_latest(dispatcher.metrics.registry)
        return Response(text, media_type=prometheus_client.CONTENT_TYPE_LATEST)


def _add_page(app: FastAPI) -> None:
    """A route for each static file: an address never becomes a path."""
    addresses = {f"/{path.name}": path for path in STATIC.iterdir() if path.is_file()}
    addresses |= {"/": STATIC / "index.html", "/docs": STATIC / "api.html"}
    for address, path in addresses.items():
        app.add_route(address, _file(path), include_in_schema=False)


def _file(path: Path) -> Callable:
    async def answer(_: Request) -> FileResponse:
        return FileResponse(path)

    return answer


def _add_work(app: FastAPI, dispatcher: Dispatcher) -> None:
    service = dispatcher.service

    @app.post(
        "/api/v1/predict",
        summary="Find boxes and classify the study",
        tags=["predict"],
        openapi_extra=_FILES,
        responses=_BAD_FILES,
    )
    async def predict(
        request: Request, detector: _Detector = ENSEMBLE, strategy: _Strategy = None, attention: _Attention = False
    ) -> schemas.Prediction:
        question = _question(service, detector, strategy, attention)
        with dispatcher.receiver.incoming() as incoming:
            uploads = await incoming.receive(request)
            radiographs = await dispatcher.run(request, "decode", service.decode, uploads)
            del uploads
            found = await dispatcher.run(request, "predict", service.predict, question, radiographs)
        dispatcher.metrics.images.inc(len(found.images))
        return found

    @app.post(
        "/api/v1/preview",
        summary="What the models see of one file, as a PNG",
        tags=["predict"],
        openapi_extra=_FILES,
        responses={200: {"content": {"image/png": {}}}, **_BAD_FILES},
        response_class=Response,
    )
    async def preview_of(request: Request) -> Response:
        with dispatcher.receiver.incoming() as incoming:
            upload = _single(await incoming.receive(request))
            return await dispatcher.run(request, "decode", _preview, service, upload)

    @app.post(
        "/api/v1/picture",
        summary="One file with its boxes, as a PNG",
        tags=["predict"],
        openapi_extra=_FILES,
        responses={200: {"content": {"image/png": {}}}, **_BAD_FILES},
        response_class=Response,
    )
    async def picture(
        request: Request,
        detector: _Detector = ENSEMBLE,
        strategy: _Strategy = None,
        attention: _Attention = False,
        threshold: _Threshold = 0.0,
        fused: _Fused = True,
        members: _Members = (),
        level: _Level = 128,
        width: _Width = 255,
        invert: _Invert = False,
        hidden: _Hidden = (),
    ) -> Response:
        question = _question(service, detector, strategy, attention)
        for what, given, known in (
            ("member", members, service.choices[detector]),
            ("class", hidden, service.predictor.classes.names),
        ):
            if unknown := set(given) - set(known):
                raise ProblemError(422, f"{min(unknown)!r} is no {what}; there are {', '.join(known)}.")
        view = View(threshold, fused, members, level, width, invert, hidden)
        with dispatcher.receiver.incoming() as incoming:
            upload = _single(await incoming.receive(request))
            shown, seen = await dispatcher.run(request, "decode", _shown_and_seen, service, upload)
            return await dispatcher.run(request, "predict", _picture, service, question, shown, seen, view)

    @app.post(
        "/api/v1/report",
        summary="The findings as a DICOM Structured Report",
        tags=["predict"],
        openapi_extra=_FILES,
        responses={200: {"content": {"application/dicom": {}}}, **_BAD_FILES},
        response_class=Response,
        include_in_schema=service.reports,
    )
    async def report(
        request: Request,
        detector: _Detector = ENSEMBLE,
        strategy: _Strategy = None,
        threshold: _Threshold = 0.0,
        deidentify: _Deidentify = False,
    ) -> Response:
        question = _question(service, detector, strategy, False)
        if not service.reports:
            raise ProblemError(404, "Structured Reports need covidmm with the extra 'dicom'.")
        with dispatcher.receiver.incoming() as incoming:
            uploads = await incoming.receive(request)
            radiographs = await dispatcher.run(request, "decode", service.decode, uploads)
            arguments = question, radiographs, uploads, threshold, deidentify
            file = await dispatcher.run(request, "predict", service.report, *arguments)
        return Response(file, media_type="application/dicom")


def _preview(service: Service, upload: Upload) -> Response:
    found = service.read(upload)
    size = {"X-Image-Width": str(found.header.width), "X-Image-Height": str(found.header.height)}
    return Response(preview(found.pixels), media_type="image/png", headers=size)


def _single(uploads: list[Upload]) -> Upload:
    if len(uploads) != 1:
        raise ProblemError(422, f"A picture is made of one file, not of {len(uploads)}.")
    return uploads[0]


def _shown_and_seen(service: Service, upload: Upload) -> tuple[Radiograph, Radiograph]:
    """A radiograph as it is drawn on, and as the models see it."""
    found = service.read(upload)
    return found.shrunk(PREVIEW_SIZE), service.anonymous(1, found)


def _picture(service: Service, question: Question, shown: Radiograph, seen: Radiograph, view: View) -> Response:
    content = annotated(service.predict(question, [seen]), shown.pixels, view, service.predictor.classes.names)
    return Response(content, media_type="image/png")


def _question(service: Service, detector: str, strategy: str | None, attention: bool) -> Question:
    if detector not in service.choices:
        raise ProblemError(422, f"There is no such detector; there are {', '.join(service.choices)}.")
    if strategy is not None and strategy not in service.strategies:
        raise ProblemError(422, f"There is no such strategy; there are {', '.join(service.strategies)}.")
    if strategy is not None and detector != ENSEMBLE:
        raise ProblemError(422, "A strategy fuses the boxes of the ensemble; a single detector has none.")
    # the config's own strategy keeps the config's parameters
    return Question(detector, None if strategy == service.strategies[0] else strategy, attention)
