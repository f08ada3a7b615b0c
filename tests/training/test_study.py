"""A study: its file, its grid, its cells trained once, killed and gone on with, divided, failed and recorded."""

import json
import math
import signal

import pyarrow.parquet
import pytest
import yaml

from selfattn_hf.model.positions import POSITIONS, RotaryPositions
from selfattn_hf.training import (
    gather,
    read_study,
    run_study,
    state_of_run,
    study_runs,
    study_table,
    train,
    write_study,
)
from selfattn_hf.training.study_grid import in_words

OWN = """
from selfattn_hf.model import PositionalEncoding


class Nearer(PositionalEncoding):
    def bias(self, queries, keys, places):
        return (places.keys[:, None, None, :] - places.queries[:, None, :, None]).abs() * -0.5


class Shut(PositionalEncoding):
    pass


class Other:
    pass
"""


@pytest.fixture
def base(values):
    """Settings of a run without what a study decides."""
    return {name: value for name, value in values.items() if name not in ("output_dir", "position_encoding")} | {
        "tokenizer_vocab_size": 12,
        "max_steps": 2,
        "eval_steps": 2,
    }


@pytest.fixture
def write(tmp_path, base):
    """Write a study's file: base and folder, and what is given."""

    def written(name="study", **content):
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump({"base": base, "output_dir": str(tmp_path / "out"), **content}, sort_keys=False))
        return path

    return written


@pytest.fixture
def counted(monkeypatch):
    """Names of the folders that were trained into, in order."""
    trained = []

    def training(settings):
        trained.append(settings.output_dir.parent.name)
        return train(settings)

    monkeypatch.setattr(study_runs, "train", training)
    return trained


@pytest.fixture
def own_words():
    """Words that a test joins are gone after it."""
    from selfattn_hf.model import positions, switches

    groups = [switches.Position, switches.AffinityPosition, switches.EmbeddingPosition, switches.TreePosition]
    before, known = [group.__args__ for group in groups], dict(positions.POSITIONS)
    yield
    for group, words in zip(groups, before, strict=True):
        group.__args__ = words
    positions.POSITIONS.clear()
    positions.POSITIONS.update(known)


def test_a_grid_is_the_product_and_cells_come_after_it(write):
    study = read_study(
        write(vary={"position_encoding": ["rope", ["sinusoidal", "rope"]], "norm": ["pre", "none"]},
              cells={"bare": {"feedforward": "none"}}, seeds=[1, 2])
    )  # fmt: skip
    cells = ["rope / pre", "rope / none", "sinusoidal+rope / pre", "sinusoidal+rope / none", "bare"]
    assert [(run.seed, run.cell) for run in study.runs] == [(seed, cell) for seed in (1, 2) for cell in cells]
    assert len({run.name for run in study.runs}) == 10
    assert study.runs[3].settings.model["position_encoding"] == ["sinusoidal", "rope"]
    assert study.runs[4].settings.model["feedforward"] == "none"
    assert {run.settings.training["seed"] for run in study.runs[5:]} == {2}
    assert not study.folder.exists()


def test_all_is_every_word_and_trees_go_where_trees_are_read(write):
    trees = {"syntax": "chain", "decoder_position_encoding": "alibi"}
    study = read_study(write(vary={"position_encoding": "all"}, trees=trees))
    assert {run.cell for run in study.runs} == set(POSITIONS)
    for run in study.runs:
        reads = run.cell.startswith("tree_")
        assert (run.settings.data.syntax == "chain") == reads
        assert run.settings.model.get("decoder_position_encoding") == ("alibi" if reads else None)


def test_a_cell_in_a_file_has_its_switches_alone(write, tmp_path):
    file = tmp_path / "other.yaml"
    file.write_text(
        "dataset: elsewhere\nhidden_size: 32\nencoder_mixer: rnn\nposition_encoding: none\nmax_steps: 9\nseed: 7\n"
    )
    (run,) = read_study(write(cells=[str(file)])).runs
    assert run.cell == "other" and run.settings.model["hidden_size"] == 32
    assert run.settings.training["max_steps"] == 2 and run.settings.data.dataset != "elsewhere"
    assert run.settings.training["seed"] == 1


def test_the_command_line_beats_cells_and_file(write):
    study = read_study(
        write(cells={"a": {"hidden_size": 32}, "b": {"norm": "none"}}),
        {"hidden_size": "8", "seeds": "4,5", "output_dir": "x"},
    )
    assert {run.settings.model["hidden_size"] for run in study.runs} == {8}
    assert [run.seed for run in study.runs] == [4, 4, 5, 5]
    assert study.folder.name == "x"


def test_matched_cells_have_as_many_parameters_as_the_reference(write, counted):
    study = read_study(
        write(
            vary={"feedforward": ["relu", "none"]}, match={"what": "parameters", "reference": "relu", "tolerance": 0.1}
        )
    )
    first, second = study.runs
    assert not first.resized and "hidden_size" in second.resized
    assert abs(second.parameters - first.parameters) < 0.1 * first.parameters
    assert second.settings.model["hidden_size"] == second.resized["hidden_size"][1]
    run_study(study)
    assert [row["parameters"] for row in gather(study)["rows"]] == [first.parameters, second.parameters]


def test_every_run_is_trained_once_and_tested(write, counted):
    path = write(
        vary={"position_encoding": ["rope", "none"]},
        cells={"again": {"position_encoding": "rope"}},
        seeds=[1, 2],
        tests={"short": {"lengths": [[1, 2], 3, [4, 5]]}, "all": None},
    )
    study = read_study(path)
    outcome = run_study(study)
    assert len(outcome.trained) == 4 and not outcome.failed
    assert sorted(counted) == sorted({run.name for run in study.runs})
    results = gather(study)
    assert len(results["rows"]) == 6 * 4  # three cells of two seeds, and four rows of tests each
    assert not results["missing"] and not results["failed"]
    figures = {(row["cell"], row["seed"], row["test"], row["low"]): row["token_accuracy"] for row in results["rows"]}
    assert all(figures["again", *place] == figures["rope", *place] for _, *place in figures)
    assert {row["length"] for row in results["rows"]} == {1.5, 3.0, 4.5, None}
    rows = {(row["low"]): row["test_rows"] for row in results["rows"]}
    assert rows[1] + rows[3] + rows[4] == rows[None] == 10
    again = run_study(read_study(path))
    assert len(again.there) == 4 and not again.trained and len(counted) == 4


def test_another_study_takes_up_the_cells_that_are_there(write, counted):
    run_study(read_study(write(cells={"one": {"norm": "none"}})))
    other = read_study(write("other", vary={"norm": ["none", "post"]}, tests={"long": {"lengths": [[3, 5]]}}))
    outcome = run_study(other)
    assert len(counted) == 2 and len(outcome.trained) == 2  # one of them was only tried on other rows
    assert len(gather(other)["rows"]) == 2


def test_a_killed_study_goes_on_to_the_same_end(write, tmp_path, base, monkeypatch):
    from selfattn_hf.training.trainer import SelfAttnTrainer

    content = {
        "base": {**base, "max_steps": 6, "save_steps": 2, "eval_steps": 2},
        "vary": {"position_encoding": ["rope"]},
    }
    whole = read_study(write("whole", **content), {"output_dir": str(tmp_path / "whole")})
    run_study(whole)
    study, step = read_study(write(**content)), SelfAttnTrainer.training_step

    def interrupted(self, *arguments, **named):
        if self.state.global_step == 3:
            signal.raise_signal(signal.SIGTERM)
        return step(self, *arguments, **named)

    monkeypatch.setattr(SelfAttnTrainer, "training_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_study(study)
    assert state_of_run(study.runs[0]) == "begun"
    monkeypatch.setattr(SelfAttnTrainer, "training_step", step)
    assert gather(study)["missing"][0]["state"] == "begun"
    assert run_study(study).trained == [study.runs[0].name]
    timed = ("seconds", "tokens_per_second")
    rows = [{k: v for k, v in gather(one)["rows"][0].items() if k not in timed} for one in (whole, study)]
    assert rows[0] == rows[1]
    assert not list(study.runs[0].folder.rglob("checkpoint-*"))


@pytest.mark.parametrize("of", [1, 2, 3, 5, 7, 20])
def test_shards_are_disjoint_and_complete(write, of):
    study = read_study(write(vary={"position_encoding": ["rope", "none", "alibi"]}, seeds=[1, 2, 3]))
    parts = [study.shard(number, of) for number in range(1, of + 1)]
    assert [run.name for part in parts for run in part] == [run.name for run in study.unique]
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_failure_is_recorded_and_the_others_go_on(write, base, counted):
    path = write(base={**base, "max_steps": 6, "eval_steps": 6}, vary={"learning_rate": [1e38, 1e-3]})
    study = read_study(path)
    outcome = run_study(study)
    assert outcome.failed == [study.runs[0].name] and outcome.trained == [study.runs[1].name]
    results = gather(study)
    assert "FloatingPointError" in results["failed"][0]["error"] and results["failed"][0]["cell"] == "1e+38"
    assert [row["cell"] for row in results["rows"]] == ["0.001"]
    assert "Failed: 1e+38, seed 1: FloatingPointError" in study_table(results)
    assert run_study(study).failed == outcome.failed and len(counted) == 2  # it would fail again
    assert run_study(study, retry=True).failed == outcome.failed and len(counted) == 3


def test_a_cell_that_another_process_trains_is_passed_over(write, counted):
    from selfattn_hf.training.disk import sole_use

    study = read_study(write(cells={"one": {}}))
    study.runs[0].folder.mkdir(parents=True)
    with sole_use(study.runs[0].folder):
        outcome = run_study(study)
    assert outcome.elsewhere == [study.runs[0].name] and not counted


def test_an_own_encoding_joins_by_one_line(write, tmp_path, counted, own_words):
    file = tmp_path / "mine.py"
    file.write_text(OWN)
    study = read_study(write(vary={"position_encoding": ["nearer", "rope"]}, encodings={"nearer": f"{file}:Nearer"}))
    assert run_study(study).trained == [run.name for run in study.runs]
    assert [row["cell"] for row in gather(study)["rows"]] == ["nearer", "rope"]
    file.write_text(OWN.replace("-0.5", "-0.25"))
    changed = read_study(write(vary={"position_encoding": ["nearer", "rope"]}, encodings={"nearer": f"{file}:Nearer"}))
    names = [run.name for run in changed.runs]
    assert names[0] != study.runs[0].name and names[1] == study.runs[1].name


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{}:Shut", "opens none of the three doors"),
        ("{}:Other", "subclass of PositionalEncoding"),
        ("{}:Neare", "Did you mean Nearer?"),
        ("{}", "takes path/to/file.py:ClassName"),
        ("none_such.py:Nearer", "is no file"),
        (3, "takes path/to/file.py:ClassName"),
    ],
)
def test_an_own_encoding_that_is_none_is_refused(write, tmp_path, entry, message, own_words):
    file = tmp_path / "mine.py"
    file.write_text(OWN)
    entry = entry.format(file) if isinstance(entry, str) else entry
    with pytest.raises(ValueError, match="encodings: nearer") as refused:
        read_study(write(vary={"position_encoding": ["nearer"]}, encodings={"nearer": entry}))
    assert message in str(refused.value)


def test_nothing_of_a_models_folder_is_executed(write, tmp_path):
    for folder in (tmp_path / "model", tmp_path / "cache"):
        folder.mkdir()
        (folder / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n{OWN}")
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "link.py").symlink_to(tmp_path / "model" / "mine.py")
    for file in ("model/mine.py", "link.py"):
        with pytest.raises(ValueError, match="nothing from there is executed"):
            read_study(write(cells={"a": {}}, encodings={"mine": f"{tmp_path / file}:Nearer"}))
    assert not (tmp_path / "ran").exists()


def test_a_word_of_the_registry_stays_what_it_is(write, tmp_path, own_words):
    file = tmp_path / "mine.py"
    file.write_text(OWN)
    with pytest.raises(ValueError, match="position_encoding='rope' is RotaryPositions already"):
        read_study(write(cells={"a": {}}, encodings={"rope": f"{file}:Nearer"}))
    assert POSITIONS["rope"] is RotaryPositions


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"varry": {}}, "Did you mean vary?"),
        ({"hidden_size": 3}, "put it into base"),
        ({"base": None}, "base takes"),
        ({}, "there is nothing to compare"),
        ({"vary": {"position_encodin": ["rope"]}}, "Did you mean position_encoding?"),
        ({"vary": {"position_encoding": ["roppe"]}}, "Did you mean rope?"),
        ({"vary": {"position_encoding": "rope"}}, "takes a list of values"),
        ({"vary": {"hidden_size": "all"}}, "no words that `all` could stand for"),
        ({"vary": {"seed": [1, 2]}}, "Set seeds"),
        ({"cells": {"a": {"seed": 1}}}, "Set seeds"),
        ({"cells": {"a": {"output_dir": "x"}}}, "the study's output_dir"),
        ({"cells": {"a": {"hiden_size": 3}}}, "Did you mean hidden_size?"),
        ({"cells": {"a": 3}}, "takes settings or a settings file"),
        ({"cells": {"a": "none_such.yaml"}}, "none_such.yaml is no file"),
        ({"cells": {"a": {"encoder_mixer": "rnn", "position_encoding": "rope"}}}, "cell a: encoder_position_encoding"),
        ({"cells": {"a": {}, "b": {"max_steps": 3}}}, "all cells have the same budget, and max_steps is 2 in a and 3"),
        ({"cells": {"rope": {}}, "vary": {"position_encoding": ["rope"]}}, "two cells are called rope"),
        ({"cells": {"a": {}}, "seeds": []}, "different numbers"),
        ({"cells": {"a": {}}, "seeds": [1, 1]}, "different numbers"),
        ({"cells": {"a": {}}, "seeds": ["x"]}, "seeds takes"),
        ({"cells": {"a": {}}, "match": "size"}, "what takes parameters"),
        ({"cells": {"a": {}}, "match": {"what": "parameters", "reference": "b"}}, "Choose one of: a"),
        ({"cells": {"a": {}}, "tests": {"t": {"lengths": [3, 2]}}}, "in rising order"),
        ({"cells": {"a": {}}, "tests": {"t": {"tset_split": "x"}}}, "Did you mean test_split?"),
        ({"cells": {"a": {}}, "tests": {"t": {"of": "target"}}}, "would do nothing without lengths"),
        ({"cells": {"a": {}}, "tests": {"t": {"lengths": [1], "length": 1}}}, "Give one of them"),
        ({"cells": {"a": {}}, "curve": {"metric": "blue"}}, "Did you mean bleu?"),
        ({"cells": {"a": {}}, "trees": {"syntax": "chain"}}, "trees would do nothing"),
        ({"cells": {"a": {"init_from": "some/model"}}}, "Leave it out of a study"),
        ({"cells": {"a": {"init_from": None}}, "base": {"dataset": "d", "tokenizer": "some/model"}}, "vocab_size"),
    ],
)  # fmt: skip
def test_a_bad_file_is_refused_before_anything_is_written(write, tmp_path, content, message):
    path = write(**content)
    with pytest.raises(ValueError, match="study.yaml") as refused:
        read_study(path)
    assert message in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_illegal_cells_can_be_left_out_with_the_reason(write):
    vary = {"encoder_mixer": ["rnn", "self_attention"], "encoder_position_encoding": ["rope", "none"]}
    with pytest.raises(ValueError, match="illegal: skip"):
        read_study(write(vary=vary))
    study = read_study(write(vary=vary, illegal="skip"))
    assert [run.cell for run in study.runs] == ["rnn / none", "self_attention / rope", "self_attention / none"]
    assert list(study.left_out) == ["rnn / rope"] and "has none" in study.left_out["rnn / rope"]


def test_a_split_for_every_length(write, reversing, tmp_path, counted):
    for length in (2, 3):
        (tmp_path / f"rows_{length}.jsonl").write_text(
            json.dumps({"source": " ".join("abc"[:length]), "target": " ".join("abc"[:length])}) + "\n"
        )
    tests = {"rows": {"dataset": {"test": str(tmp_path / "rows_{}.jsonl")}, "lengths": [2, 3]}}
    study = read_study(write(cells={"one": {}}, tests=tests))
    assert run_study(study).trained
    assert [(row["test"], row["length"], row["test_rows"]) for row in gather(study)["rows"]] == [
        ("rows", 2, 1),
        ("rows", 3, 1),
    ]


def test_a_length_beyond_the_table_has_no_figure_and_says_why(write, counted):
    study = read_study(
        write(cells={"learned": {"position_encoding": "learned", "max_position_embeddings": 5, "max_train_rows": 96,
                                 "max_source_length": 5, "max_target_length": 5, "max_new_tokens": 5}},
              tests={"t": {"max_source_length": 6, "max_target_length": 6, "lengths": [[1, 4], 5]}})
    )  # fmt: skip
    run_study(study)
    near, far = gather(study)["rows"]
    assert near["error"] is None and near["token_accuracy"] is not None
    assert "knows 5 places" in far["error"] and far["token_accuracy"] is None


def test_the_files_hold_the_same_figures(write, tmp_path, counted):
    study = read_study(
        write(vary={"position_encoding": ["rope", "none"]}, seeds=[1, 2], tests={"t": {"lengths": [[1, 3], [4, 5]]}})
    )
    run_study(study)
    results = gather(study)
    table = study_table(results, {"reach": {"rope": "all"}})
    paths = write_study(study.folder, results, table)
    assert [path.name for path in paths] == ["results.json", "results.md", "results.parquet"]
    read = json.loads(paths[0].read_text())
    assert read == results
    assert pyarrow.parquet.read_table(paths[2]).to_pylist() == results["rows"]
    for one in results["summary"]:
        rows = [row for row in results["rows"] if (row["cell"], row["low"]) == (one["cell"], one["low"])]
        figures = [row["token_accuracy"] for row in rows]
        mean = sum(figures) / len(figures)
        assert one["token_accuracy_mean"] == pytest.approx(mean) and one["seeds"] == [1, 2]
        assert one["token_accuracy_sd"] == pytest.approx(math.sqrt(sum((x - mean) ** 2 for x in figures)))
        assert f"{mean:.1f} ({min(figures):.1f} to {max(figures):.1f})" in table
    assert "| cell | reach |" in table and "| rope | all |" in table


@pytest.mark.parametrize(
    ("value", "words"), [(["rope", "t5"], "rope+t5"), (None, "null"), (True, "true"), (0.5, "0.5")]
)
def test_a_value_in_words(value, words):
    assert in_words(value) == words
