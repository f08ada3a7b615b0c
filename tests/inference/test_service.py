"""The service, asked by real clients over loopback: answers as offline, nothing lost, every error a sentence."""

import contextlib
import json
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from selfattn_hf import Translator

pytest.importorskip("fastapi", reason="the service is an extra")
httpx = pytest.importorskip("httpx", reason="a client of the service is an extra")
uvicorn = pytest.importorskip("uvicorn", reason="the service is an extra")

from selfattn_hf.inference.service import ServiceSettings, make_app  # noqa: E402


@contextlib.contextmanager
def serving(app):
    """An address at which the app answers; connections wait in the socket until it does."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as door:
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [door]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{door.getsockname()[1]}", server
        finally:
            server.should_exit = True
            thread.join(60)
            assert not thread.is_alive()


@pytest.fixture(scope="module")
def offline(saved):
    return Translator.from_pretrained(saved, device="cpu")


@pytest.fixture(scope="module")
def client(offline):
    """A client of a service with small limits."""
    settings = ServiceSettings(max_texts=3, max_characters=60, max_body_bytes=2000, max_beams=3, max_new_tokens=12)
    look = {"source_tokens": ["a"], "written_tokens": ["b"], "weights": [[[[1.0]]]]}
    with serving(make_app(offline, settings, lambda text: look)) as (url, _), httpx.Client(base_url=url) as client:
        yield client


def until(happened):
    """Wait for what another thread does."""
    end = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < end


def ask(client, text, **more):
    answer = client.post("/translate", json={"text": text, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()["translation"]


def test_a_text_and_a_list_are_answered_as_offline(client, offline, sentences):
    assert ask(client, sentences[0]) == offline(sentences[0])
    some = [sentences[1], "", sentences[2]]
    assert ask(client, some) == offline(some)
    assert ask(client, sentences[0], num_beams=3, max_new_tokens=5) == offline(
        sentences[0], num_beams=3, max_new_tokens=5
    )
    assert ask(client, []) == []


def test_200_requests_at_once_lose_nothing_and_are_answered_as_offline(offline, sentences):
    """Of several lengths, settings and numbers of texts, by 20 clients."""
    asked = []
    for number in range(200):
        words = sentences[number % len(sentences)].split()
        text = " ".join(words[: 1 + number % len(words)])
        more = [{}, {"num_beams": 2}, {"max_new_tokens": 4}][number % 3]
        asked.append((text if number % 4 else [text, sentences[-1 - number % 5]], more))
    expected = [offline(text, **more) for text, more in asked]
    with (
        serving(make_app(offline, ServiceSettings(max_batch=16))) as (url, _),
        httpx.Client(base_url=url, timeout=120) as client,
    ):
        with ThreadPoolExecutor(20) as pool:
            answers = list(pool.map(lambda one: ask(client, one[0], **one[1]), asked))
        metrics = client.get("/metrics").text
    assert answers == expected
    assert 'selfattn_requests_total{path="/translate",code="200"} 200' in metrics
    batches, texts = (float(re.search(rf"batch_texts_{name} (\S+)", metrics)[1]) for name in ("count", "sum"))
    assert texts == 250  # a quarter of the requests has two
    assert batches < 200  # some came together


@pytest.mark.parametrize("text", ["a small dog sleeps in the sun", "ein kleiner Hund schläft", "", "snow"])
def test_a_stream_joined_is_the_answer(client, offline, text):
    with client.stream("POST", "/translate/stream", json={"text": text}) as answer:
        told = [json.loads(line) for line in answer.iter_lines()]
    assert told[-1] == {"translation": offline(text)}
    assert "".join(piece["text"] for piece in told[:-1]) == offline(text)


def test_a_stream_comes_in_pieces_and_no_longer_than_asked(client, offline):
    text = "a woman reads a book in the park while it rains"
    with client.stream("POST", "/translate/stream", json={"text": text, "max_new_tokens": 3}) as answer:
        told = [json.loads(line) for line in answer.iter_lines()]
    assert len(told) > 2
    assert told[-1]["translation"] == offline(text, max_new_tokens=3)


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        ("{", 400, "The body is no JSON"),
        ("[]", 422, "The body is a JSON object"),
        ('{"text": 3}', 422, "a text or a list of texts, got 3"),
        ('{"text": ["a", null]}', 422, "a text or a list of texts"),
        ('{"texts": ["a"]}', 422, "The field text is missing"),
        ('{"text": "a", "beams": 2}', 422, "There is no field beams"),
        ('{"text": "a", "num_beams": 4}', 422, "num_beams is a whole number from 1 to 3, got 4"),
        ('{"text": "a", "max_new_tokens": 0}', 422, "max_new_tokens is a whole number from 1 to 12, got 0"),
        ('{"text": "a", "num_beams": 1.5}', 422, "num_beams is a whole number, got 1.5"),
        ('{"text": ["a", "b", "c", "d"]}', 422, "3 texts at most, got 4"),
        (json.dumps({"text": ["a", "b" * 61]}), 422, "60 characters at most, and text 1 has 61"),
        (json.dumps({"text": "a" * 2000}), 413, "2000 bytes at most"),
        (json.dumps({"text": "snow " * 12}), 200, ""),
    ],
)
def test_what_cannot_be_answered_is_said_in_a_sentence(client, body, code, words):
    answer = client.post("/translate", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == code, answer.text
    assert words in answer.json().get("error", "")


def test_a_body_without_a_length_is_no_way_around_its_limit(client):
    answer = client.post("/translate", content=(b"x" * 100 for _ in range(30)))
    assert answer.status_code == 413


def test_a_text_with_more_tokens_than_places_is_refused_alone(make_model, tokenizers):
    model = Translator(make_model(position_encoding="learned"), tokenizers)  # 16 places
    with serving(make_app(model)) as (url, _), httpx.Client(base_url=url) as client:
        answer = client.post("/translate", json={"text": ["snow", "dog " * 20]})
        assert answer.status_code == 422
        assert "texts[1] has" in answer.json()["error"] and "knows 16 places" in answer.json()["error"]
        stream = client.post("/translate/stream", json={"text": "dog " * 20}).json()
        assert "knows 16 places" in stream["error"]
        assert client.post("/translate", json={"text": "snow"}).status_code == 200


def test_health_metrics_page_and_attention_are_there(client):
    health = client.get("/health").json()
    assert health["status"] == "ok" and health["limits"]["max_texts"] == 3
    metrics = client.get("/metrics")
    assert metrics.headers["content-type"].startswith("text/plain")
    for line in metrics.text.splitlines():
        assert re.fullmatch(r"# (HELP|TYPE) selfattn_\w+ .+|selfattn_\w+(\{[^}]*\})? [\d.]+", line), line
    page = client.get("/")
    assert page.status_code == 200 and "default-src 'none'" in page.headers["content-security-policy"]
    assert not re.search(r"(src|href)=|@import|https?://(?!www\.w3\.org)", page.text)  # nothing from elsewhere
    assert client.post("/attention", json={"text": "snow"}).json()["weights"] == [[[[1.0]]]]
    assert client.get("/elsewhere").status_code == 404


class Still(Translator):
    """Stands still in its first batch until `go` is set."""

    def __init__(self, translator):
        super().__init__(translator.model, translator.tokenizers)
        self.begun, self.go, self.seen = threading.Event(), threading.Event(), []

    def __call__(self, texts, **options):
        self.seen += texts
        self.begun.set()
        assert self.go.wait(60)
        return super().__call__(texts, **options)


def test_what_takes_too_long_is_given_up_and_not_computed(offline):
    still = Still(offline)
    with serving(make_app(still, ServiceSettings(timeout_s=0.0))) as (url, _), httpx.Client(base_url=url) as client:
        first = client.post("/translate", json={"text": "snow"})
        assert first.status_code == 504
        assert first.json()["error"].startswith("There was no answer within 0 seconds")
        still.go.set()
    assert still.seen in ([], ["snow"])


def test_a_full_queue_is_said_with_a_time_to_come_back(offline, sentences):
    still = Still(offline)
    app = make_app(still, ServiceSettings(max_queue=2))
    with serving(app) as (url, _), httpx.Client(base_url=url) as client, ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, client, sentences[0])
        assert still.begun.wait(60)
        refused = client.post("/translate", json={"text": sentences[:3]})
        still.go.set()
        assert first.result() == offline(sentences[0])
    assert refused.status_code == 503 and refused.headers["retry-after"] == "1"
    assert refused.json()["error"] == "0 texts wait and 2 may, so that 3 more have no room; try again later."


def test_what_was_accepted_is_answered_though_the_service_ends(offline, sentences):
    still = Still(offline)
    app = make_app(still)
    with serving(app) as (url, server), httpx.Client(base_url=url) as client, ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(ask, client, text) for text in sentences[:3]]
        assert still.begun.wait(60)
        until(lambda: len(still.seen) + app.state.batcher.waiting() == 3)
        server.should_exit = True
        still.go.set()
        assert [one.result() for one in asked] == offline(sentences[:3])


def test_what_a_client_no_longer_waits_for_is_dropped(offline, sentences):
    still = Still(offline)
    app = make_app(still)
    with serving(app) as (url, _), httpx.Client(base_url=url) as client, ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, client, sentences[0])
        assert still.begun.wait(60)
        with pytest.raises(httpx.ReadTimeout):
            client.post("/translate", json={"text": "never computed"}, timeout=0.5)
        until(lambda: not app.state.batcher.waiting())
        still.go.set()
        assert first.result() == offline(sentences[0])
    assert "never computed" not in still.seen


def test_a_failure_of_the_model_is_said_and_the_service_lives_on(offline):
    def fail(text):
        raise RuntimeError("out of memory")

    with serving(make_app(offline, look=fail)) as (url, _), httpx.Client(base_url=url) as client:
        answer = client.post("/attention", json={"text": "snow"})
        assert answer.status_code == 500 and "the log of the service says how" in answer.json()["error"]
        assert ask(client, "snow") == offline("snow")


def test_settings_are_numbers_that_mean_something():
    with pytest.raises(ValueError, match="max_batch is a number from 1 on, got 0"):
        ServiceSettings(max_batch=0)
    with pytest.raises(ValueError, match="timeout_s is a number from 0 on, got nan"):
        ServiceSettings(timeout_s=float("nan"))
