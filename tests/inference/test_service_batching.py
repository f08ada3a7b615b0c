"""The queue before a model: what is computed together, refused, dropped. A double stands for it."""

import threading
from concurrent.futures import CancelledError

import pytest

from selfattn_hf.inference.service_batching import BusyError
from selfattn_hf.inference.sources import TextError

pytest.importorskip("fastapi", reason="the service is an extra")


def test_texts_of_many_requests_are_one_batch(held):
    first = held.submit(["occupied"])
    held.double.begun.wait(30)
    jobs = [held.submit([f"{number}", f"{number} again"]) for number in range(4)]
    held.double.go.set()
    assert first.future.result(30) == ["OCCUPIED"]
    assert [job.future.result(30) for job in jobs] == [[f"{number}", f"{number} AGAIN"] for number in range(4)]
    assert [len(batch) for batch, _ in held.double.batches] == [1, 8]


def test_a_batch_has_no_more_texts_than_allowed_and_a_request_may_be_in_several(held):
    held.submit(["occupied"])
    held.double.begun.wait(30)
    job = held.submit([str(number) for number in range(20)])
    held.double.go.set()
    assert job.future.result(30) == [str(number) for number in range(20)]
    assert [len(batch) for batch, _ in held.double.batches] == [1, 8, 8, 4]


def test_only_texts_with_the_same_settings_are_computed_together(held):
    held.submit(["occupied"])
    held.double.begun.wait(30)
    jobs = [held.submit([str(number)], num_beams=number % 2 + 1) for number in range(6)]
    held.double.go.set()
    assert [job.future.result(30) for job in jobs] == [[str(number)] for number in range(6)]
    given = [(batch, options["num_beams"]) for batch, options in held.double.batches[1:]]
    assert given == [(["0", "2", "4"], 1), (["1", "3", "5"], 2)]


def test_a_text_waits_for_others_no_longer_than_it_may(make_batcher):
    batcher = make_batcher(max_wait_s=3600.0)
    jobs = [
        batcher.submit([str(number)]) for number in range(8)
    ]  # the eighth fills the batch, and nobody waits an hour
    assert [job.future.result(30) for job in jobs] == [[str(number)] for number in range(8)]
    assert [len(batch) for batch, _ in batcher.double.batches] == [8]


def test_what_has_no_room_is_refused_and_nothing_of_it_is_computed(held):
    held.submit(["occupied"])
    held.double.begun.wait(30)
    held.submit(["x"] * 30)
    with pytest.raises(BusyError, match="30 texts wait and 32 may, so that 3 more have no room"):
        held.submit(["y"] * 3)
    last = held.submit(["z"] * 2)
    held.double.go.set()
    assert last.future.result(30) == ["Z", "Z"]
    assert not any("y" in batch for batch, _ in held.double.batches)


def test_what_nobody_waits_for_is_not_computed(held):
    held.submit(["occupied"])
    held.double.begun.wait(30)
    gone, stays = held.submit(["gone", "gone too"]), held.submit(["stays"])
    held.drop(gone)
    assert held.waiting() == 1
    held.double.go.set()
    assert stays.future.result(30) == ["STAYS"]
    with pytest.raises(CancelledError):
        gone.future.result(0)
    assert [batch for batch, _ in held.double.batches] == [["occupied"], ["stays"]]
    assert "selfattn_dropped_texts_total 2" in held.metrics.text(0)


def test_a_wrong_text_fails_its_own_request_alone(held):
    held.submit(["occupied"])
    held.double.begun.wait(30)
    before, wrong, after = held.submit(["a"]), held.submit(["fine", "too long"]), held.submit(["b"])
    held.double.go.set()
    assert before.future.result(30) == ["A"] and after.future.result(30) == ["B"]
    with pytest.raises(TextError, match=r"texts\[1\] is too long"):
        wrong.future.result(30)


def test_an_error_of_the_model_is_told_and_the_next_request_is_answered(make_batcher):
    batcher = make_batcher()
    with pytest.raises(RuntimeError, match="out of memory"):
        batcher.submit(["break"]).future.result(30)
    assert batcher.submit(["next"]).future.result(30) == ["NEXT"]


def test_what_was_accepted_is_answered_before_the_end_and_nothing_after(held):
    held.submit(["occupied"])
    held.double.begun.wait(30)
    jobs = [held.submit([str(number)], num_beams=number % 3 + 1) for number in range(20)]
    closing = threading.Thread(target=held.close)
    closing.start()
    while not held.closing:
        pass
    with pytest.raises(BusyError, match="shutting down"):
        held.submit(["late"])
    held.double.go.set()
    closing.join(30)
    assert not closing.is_alive()
    assert [job.future.result(0) for job in jobs] == [[str(number)] for number in range(20)]


def test_a_call_runs_between_batches(held):
    held.submit(["occupied"])
    held.double.begun.wait(30)
    before, call, after = held.submit(["a"]), held.run(lambda: threading.current_thread().name), held.submit(["b"])
    held.double.go.set()
    assert call.future.result(30) == "translator"
    assert before.future.result(30) + after.future.result(30) == ["A", "B"]
