"""A trained model behind HTTP: translate, stream, look at the attention, health, metrics, and a page for a person."""

import asyncio
import contextlib
import dataclasses
import json
import math
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException

from .service_batching import Batcher, BusyError, Job
from .service_edge import Edge, said, speak_plainly
from .service_metrics import Metrics
from .service_streaming import GoneError, stream
from .translator import Translator

PAGE = Path(__file__).with_name("service_page.html")
# The page is whole in itself: nothing is loaded from anywhere, and nothing is sent anywhere else.
CONTENT = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'"
PATHS = ("/", "/translate", "/translate/stream", "/attention", "/health", "/metrics")
FAILED = "The model failed, and the log of the service says how."
GONE = 499  # nobody waits for the answer; the number is nginx's

Look = Callable[[str], dict[str, Any]]
"""A text -> what the page draws of how it was translated; see scripts/serve.py."""


@dataclasses.dataclass(frozen=True)
class ServiceSettings:
    """Limits of a service.

    Attributes:
        max_batch: texts that are computed at once.
        max_wait_ms: how long a text waits for others to join it.
        max_queue: texts that may wait; requests beyond are refused with 503.
        timeout_s: seconds from a request to its answer; beyond, 504, and what has not begun is dropped.
        max_texts: of one request.
        max_characters: of one text.
        max_beams: of a search.
        max_new_tokens: that a request may ask for.
        max_body_bytes: of one request.

    Raises:
        ValueError: for a number below 1 (a wait may be 0).
    """

    max_batch: int = 32
    max_wait_ms: float = 2.0
    max_queue: int = 512
    timeout_s: float = 30.0
    max_texts: int = 64
    max_characters: int = 2000
    max_beams: int = 8
    max_new_tokens: int = 512
    max_body_bytes: int = 1_000_000

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            given, wait = getattr(self, field.name), field.name in ("max_wait_ms", "timeout_s")
            if not math.isfinite(given) or given < (0 if wait else 1):
                raise ValueError(f"{field.name} is a number from {0 if wait else 1} on, got {given}.")


class Asked(BaseModel):
    """The body of a request."""

    model_config = ConfigDict(extra="forbid", strict=True)

    text: str | list[str]
    num_beams: int | None = None
    max_new_tokens: int | None = None


class AskedOne(BaseModel):
    """The body of a request about one text."""

    model_config = ConfigDict(extra="forbid", strict=True)

    text: str
    max_new_tokens: int | None = None


def make_app(translator: Translator, settings: ServiceSettings | None = None, look: Look | None = None) -> FastAPI:
    """The service.

    Args:
        translator: that answers.
        settings: its limits; None: the defaults.
        look: shows how a text was translated, for the page; None: the page shows none.

    Raises:
        ValueError: for a model that reads the trees of its data, which a text alone does not tell.
    """
    if translator.reads_heads:
        raise ValueError(
            "The model was trained on the trees of its data, which a text alone does not tell, so that it cannot be "
            "served. Use scripts/translate.py with a .conllu file."
        )
    service = _Service(translator, settings or ServiceSettings(), look)
    app = FastAPI(title="selfattn_hf", docs_url=None, redoc_url=None, lifespan=service.lifespan)
    app.add_middleware(Edge, most_bytes=service.settings.max_body_bytes, metrics=service.metrics, paths=PATHS)
    speak_plainly(app)
    app.post("/translate")(service.translate)
    app.post("/translate/stream")(service.stream)
    app.post("/attention")(service.attention)
    app.get("/health")(service.health)
    app.get("/metrics")(service.text_of_metrics)
    app.get("/")(service.page)
    app.state.batcher = service.batcher
    return app


class _Service:
    def __init__(self, translator: Translator, settings: ServiceSettings, look: Look | None) -> None:
        self.translator, self.settings, self.look = translator, settings, look
        self.metrics = Metrics()
        self.batcher = Batcher(
            translator, max_batch=settings.max_batch, max_wait_s=settings.max_wait_ms / 1000,
            max_queue=settings.max_queue, metrics=self.metrics,
        )  # fmt: skip

    @contextlib.asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """Answers between start and end; what was accepted before the end is answered."""
        self.batcher.start()
        yield
        await asyncio.to_thread(self.batcher.close)

    async def translate(self, asked: Asked, request: Request) -> Response:
        """A text -> its translation, or a list of texts -> a list of translations."""
        texts = [asked.text] if isinstance(asked.text, str) else asked.text
        self._check(texts, num_beams=asked.num_beams, max_new_tokens=asked.max_new_tokens)
        if not texts:
            return JSONResponse({"translation": []})
        submit = self.batcher.submit
        job = self._accepted(lambda: submit(texts, num_beams=asked.num_beams, max_new_tokens=asked.max_new_tokens))
        return await self._answer(job, request, lambda answers: answers[0] if isinstance(asked.text, str) else answers)

    async def attention(self, asked: AskedOne, request: Request) -> Response:
        """A text -> who looked at whom while it was translated, greedily."""
        self._check([asked.text])
        look = self.look
        if look is None or not asked.text.strip():
            raise HTTPException(404 if look is None else 422, "There is nothing to look at.")
        job = self._accepted(lambda: self.batcher.run(lambda: look(asked.text)))
        return await self._answer(job, request, lambda found: found, name=None)

    async def stream(self, asked: AskedOne) -> Response:
        """A text -> its greedy translation while it is written: a line of JSON for every piece, and one for the end."""
        self._check([asked.text], max_new_tokens=asked.max_new_tokens)
        loop, lines, gone = asyncio.get_running_loop(), asyncio.Queue[str | None](), asyncio.Event()

        def tell(piece: str) -> None:
            loop.call_soon_threadsafe(lines.put_nowait, piece)

        def write() -> str:
            return stream(self.translator, asked.text, tell, gone.is_set, asked.max_new_tokens)

        job = self._accepted(lambda: self.batcher.run(write))
        job.future.add_done_callback(lambda _: loop.call_soon_threadsafe(lines.put_nowait, None))

        async def told() -> AsyncIterator[str]:
            try:
                async with asyncio.timeout(self.settings.timeout_s):
                    while (piece := await lines.get()) is not None:
                        yield json.dumps({"text": piece}, ensure_ascii=False) + "\n"
                yield json.dumps({"translation": job.future.result()}, ensure_ascii=False) + "\n"
            except TimeoutError:
                yield json.dumps({"error": self._late()}) + "\n"
            except Exception as error:
                yield json.dumps({"error": str(error) if isinstance(error, ValueError) else FAILED}) + "\n"
            finally:  # read to its end, or left by a listener who is gone
                gone.set()
                self.batcher.drop(job)

        return StreamingResponse(told(), media_type="application/x-ndjson")

    async def health(self) -> Response:
        """Whether requests are accepted."""
        config = self.translator.model.config
        state = "shutting down" if self.batcher.closing else "ok"
        content = {
            "status": state, "version": config.selfattn_version, "waiting": self.batcher.waiting(),
            "limits": dataclasses.asdict(self.settings),
        }  # fmt: skip
        return JSONResponse(content, 503 if self.batcher.closing else 200)

    async def text_of_metrics(self) -> Response:
        """Counters, as Prometheus reads them."""
        return PlainTextResponse(self.metrics.text(self.batcher.waiting()), media_type="text/plain; version=0.0.4")

    async def page(self) -> Response:
        """For a person: text in, text and attention out."""
        return HTMLResponse(PAGE.read_text(encoding="utf-8"), headers={"Content-Security-Policy": CONTENT})

    def _check(self, texts: list[str], **numbers: int | None) -> None:
        """Refuse what is too much, before it is in the queue.

        Raises:
            HTTPException: with one sentence.
        """
        if len(texts) > self.settings.max_texts:
            raise HTTPException(422, f"A request has {self.settings.max_texts} texts at most, got {len(texts)}.")
        for number, text in enumerate(texts):
            if len(text) > self.settings.max_characters:
                raise HTTPException(
                    422, f"A text has {self.settings.max_characters} characters at most, and text {number} has "
                    f"{len(text)}. Split it.",
                )  # fmt: skip
        most = {"num_beams": self.settings.max_beams, "max_new_tokens": self.settings.max_new_tokens}
        for name, given in numbers.items():
            if given is not None and not 1 <= given <= most[name]:
                raise HTTPException(422, f"The field {name} is a whole number from 1 to {most[name]}, got {given}.")

    def _accepted(self, accept: Callable[[], Job]) -> Job:
        try:
            return accept()
        except BusyError as error:
            raise HTTPException(503, f"{str(error).capitalize()}.", {"Retry-After": "1"}) from None

    async def _answer(
        self, job: Job, request: Request, shape: Callable[[Any], Any], name: str | None = "translation"
    ) -> Response:
        """Wait for the answer, as long as somebody does and not too long."""
        answer, left = asyncio.wrap_future(job.future), asyncio.ensure_future(_left(request))
        try:
            await asyncio.wait({answer, left}, timeout=self.settings.timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                return said(GONE, "Nobody waits any more.") if left.done() else said(504, self._late())
            found = shape(answer.result())
        except GoneError:
            return said(GONE, "Nobody waits any more.")
        except ValueError as error:
            return said(422, str(error))
        except Exception:  # which the queue has logged
            return said(500, FAILED)
        finally:
            left.cancel()
            self.batcher.drop(job)
        return JSONResponse(found if name is None else {name: found})

    def _late(self) -> str:
        return f"There was no answer within {self.settings.timeout_s:g} seconds. Send less at once, or try again later."


async def _left(request: Request) -> None:
    """Wait until the client hangs up."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
