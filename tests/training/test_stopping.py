"""Ctrl-C and SIGTERM: the step is finished and saved, and what goes on from there ends as if nothing had happened."""

import csv
import multiprocessing
import os
import signal
from pathlib import Path

import pytest
import torch
from transformers import TrainerControl, TrainerState

from selfattn_hf.training import make_settings, stopping, train
from selfattn_hf.training.checkpoints import OUT_OF_TURN, list_checkpoints, what_is_broken
from selfattn_hf.training.stopping import StopOnSignal, Stopped
from selfattn_hf.training.trainer import SelfAttnTrainer


@pytest.fixture(autouse=True)
def signals_are_heard():
    """As in a terminal: where tests run in the background, a shell has Ctrl-C ignored, and a run leaves it so."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def stopped_in(monkeypatch):
    """Start a run that gets signals in a given step (counted from 1), and return how it stopped."""

    def start(values, step, *signals):
        def send(self, args, state, control, **kwargs):
            if state.global_step + 1 == step:
                for number in signals or (signal.SIGINT,):
                    os.kill(os.getpid(), number)

        with monkeypatch.context() as patch:
            patch.setattr(StopOnSignal, "on_step_begin", send)
            with pytest.raises(Stopped) as stop:
                train(make_settings(values))
        return stop.value

    return start


@pytest.fixture
def quick(values):
    values.pop("eval_steps")
    return values | {"predict_with_generate": False, "per_device_train_batch_size": 24}


RHYTHMS = {
    "once an epoch": {},
    "in steps": {"eval_steps": 2, "save_steps": 4, "save_total_limit": 2},
    "average": {"eval_steps": 2, "average_checkpoints": 2},
    "never": {"save_strategy": "no", "eval_strategy": "no"},
}


@pytest.fixture(scope="module")
def never_stopped(tmp_path_factory):
    """Folder and results of a run in a given rhythm."""
    known = {}

    def find(values, rhythm):
        if rhythm not in known:
            folder = tmp_path_factory.mktemp("never_stopped") / "out"
            known[rhythm] = folder, train(make_settings({**values, "output_dir": str(folder)}))
        return known[rhythm]

    return find


# An epoch has 4 steps: in the middle of one, at the end of one, at the very end.
@pytest.mark.parametrize(
    ("rhythm", "step"),
    [("once an epoch", 3), ("once an epoch", 4), ("once an epoch", 8), ("in steps", 3), ("average", 3), ("average", 8),
     ("never", 3)],
)  # fmt: skip
def test_a_run_stopped_and_gone_on_with_ends_as_one_never_stopped(
    quick, tmp_path, never_stopped, stopped_in, rhythm, step
):
    quick |= RHYTHMS[rhythm]
    whole, expected = never_stopped(quick, rhythm)
    stop = stopped_in(quick, step)
    parts = tmp_path / "out"
    newest = list_checkpoints(parts)[-1]
    assert newest.name == f"checkpoint-{step}" and what_is_broken(newest) is None
    assert f"stopped after step {step} of 8, and all of it is in {newest}. The same command goes on" in str(stop)
    results = train(make_settings(quick))
    for name in ("kept", "kept_step", "steps", "epochs", "target_tokens", "validation", "test"):
        assert results[name] == expected[name], name
    assert (parts / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    kept = [[path.name for path in list_checkpoints(folder)] for folder in (whole, parts)]
    assert kept[0] == kept[1] or rhythm == "never"
    curves = []
    for folder in (whole, parts):
        with (folder / "training_curve.csv").open() as file:
            rows = csv.DictReader(file)
            curves.append([(row["step"], row["eval_loss"]) for row in rows if row["eval_loss"]])
    assert curves[0] == curves[1], "the same evaluations at the same steps"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_exit_code_is_the_one_a_shell_expects(quick, stopped_in, number, code):
    stop = stopped_in(quick, 1, number)
    assert isinstance(stop, KeyboardInterrupt) and stop.exit_code == code


def test_a_checkpoint_written_out_of_turn_says_so_and_is_gone_once_a_later_one_is_there(quick, tmp_path, stopped_in):
    quick |= {"eval_steps": 4}
    stopped_in(quick, 2)
    assert (tmp_path / "out" / "checkpoint-2" / OUT_OF_TURN).is_file()
    stopped_in(quick, 4)
    assert [path.name for path in list_checkpoints(tmp_path / "out")] == ["checkpoint-4"]
    assert not (tmp_path / "out" / "checkpoint-4" / OUT_OF_TURN).exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_ends_at_once(quick, tmp_path, stopped_in, capfd, number):
    stop = stopped_in(quick, 2, number, number)
    assert "ended at once" in str(stop) and stop.exit_code == 128 + number
    assert list_checkpoints(tmp_path / "out") == []
    assert "The same signal once more ends at once" in capfd.readouterr().err


def test_a_signal_that_a_launcher_hands_on_as_well_counts_once(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with StopOnSignal() as stop:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
        assert stop.number == signal.SIGINT
        monkeypatch.setattr(stopping, "REPEAT", 0.0)
        with pytest.raises(Stopped, match="ended at once"):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_signal_that_comes_in_an_evaluation_stops_after_it(quick, tmp_path, monkeypatch):
    quick |= {"eval_steps": 2}
    evaluate = SelfAttnTrainer.evaluate

    def interrupted(self, *args, **kwargs):
        os.kill(os.getpid(), signal.SIGTERM)
        return evaluate(self, *args, **kwargs)

    monkeypatch.setattr(SelfAttnTrainer, "evaluate", interrupted)
    with pytest.raises(Stopped, match="stopped after step 2 of 8"):
        train(make_settings(quick))
    newest = list_checkpoints(tmp_path / "out")[-1]
    assert newest.name == "checkpoint-2" and not (newest / OUT_OF_TURN).exists()


def test_signals_are_handled_as_before_once_the_training_is_over(quick, stopped_in):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    stopped_in(quick, 1)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_signal_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with StopOnSignal() as stop:
            os.kill(os.getpid(), signal.SIGINT)
            assert not stop.number and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_worker_that_loads_data_leaves_the_signal_to_the_run():
    with StopOnSignal() as stop:
        if (child := os.fork()) == 0:
            os.kill(os.getpid(), signal.SIGINT)
            os._exit(stop.number)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_signal_to_the_workers_too_ends_in_a_whole_checkpoint(quick, tmp_path, monkeypatch):
    quick |= {"dataloader_num_workers": 1, "max_steps": 40, "save_strategy": "no", "eval_strategy": "no"}

    def send(self, args, state, control, **kwargs):
        if state.global_step == 2:
            for process in [os.getpid(), *(child.pid for child in multiprocessing.active_children())]:
                os.kill(process, signal.SIGTERM)

    assert not multiprocessing.active_children()
    monkeypatch.setattr(StopOnSignal, "on_step_begin", send)
    with pytest.raises(Stopped, match="stopped after step 3 of 40"):
        train(make_settings(quick))
    assert what_is_broken(list_checkpoints(tmp_path / "out")[-1]) is None


def test_a_step_may_be_the_last_one_unless_more_belongs_to_it():
    stop, control = StopOnSignal(), TrainerControl()
    for epoch, over, expected in ((0.5, False, True), (1.0, False, False), (1.5, True, False)):
        control.should_training_stop = over
        stop.on_step_end(None, TrainerState(epoch=epoch), control)
        assert stop.may_stop is expected
    stop.on_epoch_end(None, TrainerState(epoch=1.0), control)
    assert stop.may_stop is True


def poisoned(values, tmp_path):
    """The training rows, of which row 37 alone has the word z."""
    lines = Path(values["dataset"]["train"]).read_text().splitlines()
    lines[37] = '{"source": "z a z", "target": "a b"}'
    (tmp_path / "train.jsonl").write_text("\n".join(lines))
    return values | {"dataset": {**values["dataset"], "train": str(tmp_path / "train.jsonl")}}


@pytest.mark.parametrize("what", ["loss", "gradient"])
@pytest.mark.parametrize("accumulated", [1, 3])
def test_a_number_that_is_none_stops_the_run_at_its_step_and_names_the_rows(
    values, tmp_path, monkeypatch, what, accumulated
):
    values = poisoned(values, tmp_path)
    values |= {"gradient_accumulation_steps": accumulated, "per_device_train_batch_size": 8, "eval_steps": 4}
    values |= {"predict_with_generate": False, "max_steps": 12}
    compute, seen = SelfAttnTrainer.compute_loss, []

    def spoiled(self, model, inputs, **kwargs):
        loss = compute(self, model, inputs, **kwargs)
        rare = [token for token, number in self.tokenizers.source.get_vocab().items() if "z" in token]
        if model.training and (inputs["input_ids"] == self.tokenizers.source.get_vocab()[rare[0]]).any():
            seen.append(self.state.global_step + 1)
            if what == "loss":
                return loss * float("nan")
            loss.register_hook(lambda gradient: gradient * float("nan"))
        return loss

    monkeypatch.setattr(SelfAttnTrainer, "compute_loss", spoiled)
    with pytest.raises(FloatingPointError) as error:
        train(make_settings(values))
    (step,) = seen
    named = "the loss is nan" if what == "loss" else "the norm of the gradient is nan"
    assert f"{named} at step {step}, so the run stops" in str(error.value)
    rows = str(error.value).split("the rows ")[1].split(" of the training split")[0].split(", ")
    assert "37" in rows and len(set(rows)) == (8 if what == "loss" else 8 * accumulated)
    kept = f"checkpoint-{(step - 1) // 4 * 4}"
    saved = [path.name for path in list_checkpoints(tmp_path / "out")]
    assert saved[-1:] == ([kept] if step > 4 else [])
    assert (f"{kept} is whole" if step > 4 else "No checkpoint was due before") in str(error.value)


def test_a_gradient_too_large_for_half_precision_is_left_to_its_scaler(values, monkeypatch):
    from selfattn_hf.training.run import _make_trainer, _prepare

    trainer = _make_trainer(_prepare(make_settings(values)))
    parameter = next(trainer.model.parameters())
    parameter.grad = torch.full_like(parameter, float("inf"))
    with pytest.raises(FloatingPointError, match="norm of the gradient is"):
        trainer._get_grad_norm(trainer.model)
    trainer.accelerator.scaler = object()
    trainer._get_grad_norm(trainer.model)
