"""The benchmarks run on tiny models, do equal work, judge by their medians, and stop where the fast path is wrong.

No time is asserted: how fast something is, is for the benchmarks to say.
"""

import importlib
import json
import math
import subprocess
import sys
import xml.etree.ElementTree
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from selfattn_hf import SelfAttnForConditionalGeneration
from selfattn_hf.model import DecodingState, SelfAttnEncoderModel

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
TINY = {
    "train": ["--size", "tiny", "--repeats", 1, "--batch_size", 4, "--workloads", "random", "tail_grouped"],
    "generate": ["--size", "tiny", "--repeats", 1, "--new_tokens", 4, "--rows", 1, 3, "--beams", 1, 2],
    "scaling": [
        "--size",
        "tiny",
        "--repeats",
        1,
        "--tokens",
        32,
        "--lengths",
        8,
        16,
        "--radius",
        2,
        "--layers",
        "local_attention",
        "fire",
    ],
    "memory": ["--size", "tiny", "--vocabulary", 300, "--batch_size", 4],
    "mask": ["--repeats", 1, "--lengths", 3, 6, "--hidden_size", 16, "--layers", 1],
}
ALL_SIDES = {"selfattn", "Marian", "BART", "T5", "torch.nn", "x-transformers"}


@pytest.fixture
def part(monkeypatch):
    """A file of the benchmarks as a module."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return lambda name: importlib.import_module(f"benchmarks.{name}")


@pytest.fixture
def measure(in_process, tmp_path):
    """Run a benchmark on a tiny model: exit code, what it wrote, output, errors."""

    def run(name, *words):
        file = tmp_path / f"{name}.json"
        code, out, err = in_process("benchmark", name, *TINY[name], *words, "--json", file)
        return code, json.loads(file.read_text()) if file.exists() else None, out, err

    return run


def sides_of(result):
    return {row["side"] for row in result["rows"]} | set(result["left_out"])


@pytest.mark.parametrize("name", TINY)
def test_a_benchmark_checks_measures_judges_writes_and_draws(name, measure, tmp_path):
    picture = tmp_path / "drawn.svg"
    code, result, out, _ = measure(name, "--plot", picture)
    assert code == 0
    assert result["benchmark"] == name and result["rows"] and result["checks"]
    assert all(0 <= check["difference"] <= check["tolerance"] for check in result["checks"])
    assert {goal["verdict"] for goal in result["goals"]} <= {"met", "missed"}
    assert result["surroundings"]["versions"]["torch"] == importlib.metadata.version("torch")
    assert out.count("checked: ") == len(result["checks"])
    drawn = xml.etree.ElementTree.parse(picture).getroot()
    assert len(list(drawn)) > len(result["rows"])


def test_training_has_every_side_on_every_workload_and_a_goal_against_the_fastest_of_transformers(measure):
    _, result, _, _ = measure("train", "--dtype", "bfloat16")
    assert sides_of(result) == ALL_SIDES
    assert {row["workload"] for row in result["rows"]} == {"random", "tail_grouped"}
    (goal,) = result["goals"]
    rivals = {
        row["side"]: row["selfattn_over_it"][0]
        for row in result["rows"]
        if row["workload"] == "random" and row["side"] in ("Marian", "BART", "T5")
    }
    assert goal["what"] == "random, bfloat16" and goal["goal"] == "at least 2.8"
    assert goal["against"] == min(rivals, key=rivals.get)
    assert goal["found"][0] == pytest.approx(min(rivals.values()), rel=1e-2)


def test_peers_that_are_not_installed_are_left_out_by_name(measure, monkeypatch):
    for missing in ("x_transformers", "ctranslate2", "ctranslate2.converters"):
        monkeypatch.setitem(sys.modules, missing, None)
    code, result, out, _ = measure("generate", "--rows", 1, "--beams", 1)
    assert code == 0
    assert {"x-transformers", "CTranslate2"} <= set(result["left_out"])
    assert {row["side"] for row in result["rows"]} == {"selfattn", "selfattn int8", "Marian", "BART", "T5"}
    assert "Left out: x-transformers" in out


def spoil(monkeypatch, model, change):
    """Let the forward pass of a class give something else where it is not the plain one in float64."""
    forward = model.forward

    def wrong(self, *args, **kwargs):
        outputs = forward(self, *args, **kwargs)
        if next(self.parameters()).dtype != torch.float64:
            change(outputs, kwargs)
        return outputs

    monkeypatch.setattr(model, "forward", wrong)


def a_little_loss(outputs, kwargs):
    if kwargs.get("loss_only"):
        outputs.loss = outputs.loss * 1.001


def other_states(outputs, kwargs):
    outputs.last_hidden_state = outputs.last_hidden_state * 1.001


@pytest.mark.parametrize(
    ("name", "model", "change"),
    [
        ("train", SelfAttnForConditionalGeneration, a_little_loss),
        ("memory", SelfAttnForConditionalGeneration, a_little_loss),
        ("scaling", SelfAttnEncoderModel, other_states),
    ],
)
def test_a_fast_path_that_is_wrong_is_not_timed(name, model, change, measure, monkeypatch):
    spoil(monkeypatch, model, change)
    code, result, out, err = measure(name)
    assert code == 1 and result is None
    assert "differs from the plain path" in err
    assert "tokens/s" not in out and " MB" not in out and " ms" not in out


def test_decoding_that_is_wrong_is_not_timed(measure, monkeypatch):
    write = DecodingState.next
    monkeypatch.setattr(DecodingState, "next", lambda self, ids: write(self, ids).roll(1, dims=-1))
    code, result, out, err = measure("generate")
    assert code == 1 and result is None
    assert "differs from the plain path" in err
    assert "tokens/s" not in out and " MB" not in out and " ms" not in out


def test_a_gradient_that_is_wrong_in_one_small_parameter_is_seen(part, monkeypatch):
    check, sizes = part("_check"), part("_sizes").SIZES["tiny"]
    batch = part("_batches").Batch.draw([(5, 4), (3, 6)], sizes.vocabulary, seed=0)
    forward = part("_peers").Ours.forward

    def wrong(self, batch):
        last = self.model.model.decoder.norm.bias
        return forward(self, batch) + 1e-3 * (last - last.detach()).sum()  # no other loss, another gradient

    monkeypatch.setattr(part("_peers").Ours, "forward", wrong)
    with pytest.raises(part("_measure").MismatchError, match="training"):
        check.check_training(sizes, batch, "cpu", torch.float32, "training")


def test_real_tokens_are_counted_and_padding_is_not(part):
    batch = part("_batches").Batch.draw([(5, 2), (3, 7)], vocabulary=20, seed=0)
    assert batch.source.shape == (2, 5) and batch.labels.shape == (2, 7)
    assert batch.real_tokens == 17 and batch.padded_tokens == 24
    assert int(batch.source_mask.sum() + (batch.labels != -100).sum()) == batch.real_tokens
    assert torch.equal(batch.target_mask.bool(), batch.labels != -100)
    assert batch.source[1].tolist()[2:] == [2, 0, 0] and batch.labels[0].tolist()[1:] == [2] + [-100] * 5
    assert batch.decoder_inputs[0].tolist() == [1, int(batch.labels[0, 0]), 2, 0, 0, 0, 0]


def test_every_side_has_the_same_work(part):
    """A loss of the same tokens, whatever the padding, and as many weights, tables of places aside."""
    peers, sizes = part("_peers"), part("_sizes").SIZES["tiny"]
    whole = part("_batches").Batch.draw([(9, 8), (5, 4), (4, 4)], sizes.vocabulary, seed=0)
    sides, _ = peers.build(sizes, "cpu")
    weights = {}
    for name, side in sides.items():
        side.eval()
        losses = []
        for rows in ([0], [1], [2]):
            lengths = [whole.lengths[row] for row in rows]
            source, target = lengths[0]
            alone = part("_batches").Batch(
                whole.source[rows, :source], whole.labels[rows, :target],
                whole.source_mask[rows, :source], whole.target_mask[rows, :target], lengths,
            )  # fmt: skip
            losses.append((side(alone).item(), target))
        mean = sum(loss * tokens for loss, tokens in losses) / sum(tokens for _, tokens in losses)
        assert side(whole).item() == pytest.approx(mean, rel=1e-4), name
        tables = sum(parameter.numel() for key, parameter in side.named_parameters() if "pos" in key)
        weights[name] = sum(parameter.numel() for parameter in side.parameters()) - tables
    assert max(weights.values()) < 1.15 * min(weights.values()), weights


@pytest.mark.parametrize(
    ("workload", "share"), [("uniform", 1.0), ("random", 0.46), ("tail_random", 0.34)]
)  # fmt: skip
def test_batches_are_padded_as_stated(workload, share, part):
    options = Namespace(batch_size=64, seed=1, device="cpu", sizes=part("_sizes").SIZES["tiny"])
    draw = part("_batches").draw_batches
    random = draw(workload, 60, options, None)
    efficiency = sum(batch.real_tokens for batch in random) / sum(batch.padded_tokens for batch in random)
    assert efficiency == pytest.approx(share, abs=0.015)
    if workload != "uniform":
        grouped = draw(workload.replace("random", "grouped"), 60, options, None)
        assert sum(batch.real_tokens for batch in grouped) / sum(batch.padded_tokens for batch in grouped) > 0.7


def test_lengths_of_a_data_set_are_those_of_its_tokens(part, tmp_path):
    (tmp_path / "train.jsonl").write_text('{"a": "one two", "b": "x"}\n{"a": "one", "b": "x y z"}\n' * 3)
    options = Namespace(
        dataset=str(tmp_path / "train.jsonl"), source_column="a", target_column="b", tokenizer=None,
        sizes=part("_sizes").SIZES["small"],
    )  # fmt: skip
    lengths = part("_batches").lengths_of(options)
    assert len(lengths) == 6 and len(set(lengths)) == 2
    assert lengths[0][0] > lengths[1][0] and lengths[0][1] < lengths[1][1]


def test_the_operations_of_a_step_are_those_that_torch_counts(part):
    peers, sizes = part("_peers"), part("_sizes").SIZES["tiny"]
    source, target = 7, 5
    batch = part("_batches").Batch.draw([(source, target)], sizes.vocabulary, seed=0)
    side = peers.Side(peers.bart_like("Marian", sizes))
    side.model.set_attn_implementation("eager")
    with FlopCounterMode(display=False) as counted:
        side(batch).backward()
    masked = 3 * sizes.layers * 2 * target * target * sizes.width  # of the future, which this attention computes too
    assert counted.get_total_flops() == sizes.training_flops(batch.lengths) + masked


@pytest.mark.parametrize(
    ("median", "at_most", "verdict"),
    [(2.4, False, "met"), (2.39, False, "missed"), (2.4, True, "met"), (2.41, True, "missed"), (None, True, "missed")],
)
def test_the_median_decides_whether_a_goal_is_met(median, at_most, verdict, part):
    common = part("_measure")
    found = None if median is None else common.Spread(median, 0.0, 9.0)
    judged = common.goal("something", 2.4, found, "Marian", at_most=at_most)
    assert judged["verdict"] == verdict
    assert judged["found"] == (None if median is None else [median, 0.0, 9.0])


def test_ratios_are_of_the_same_batch(part):
    common = part("_measure")
    assert common.ratios([2.0, 30.0, 8.0], [1.0, 10.0, 2.0]) == (3.0, 2.5, 3.5)
    assert common.spread([5.0]) == (5.0, 5.0, 5.0)


def test_sides_take_turns_and_the_warm_up_is_not_timed(part):
    order = []
    sides = {name: lambda item, name=name: order.append((name, item)) for name in "ab"}
    taken = part("_measure").interleaved(sides, [1, 2, 3], warm_up=1)
    assert order == [("a", 1), ("b", 1), ("b", 2), ("a", 2), ("a", 3), ("b", 3)]
    assert {name: len(times) for name, times in taken.items()} == {"a": 2, "b": 2}


@pytest.mark.parametrize("difference", [2e-4, math.nan, math.inf])
def test_what_differs_or_is_no_number_does_not_agree(difference, part):
    with pytest.raises(part("_measure").MismatchError, match="differs from the plain path"):
        part("_measure").agree("it", difference, 1e-4)


def test_the_exponent_is_the_slope_of_the_logarithms(part):
    assert part("_scaling").slope([256, 512, 1024], [1.0, 4.0, 16.0]) == pytest.approx(2.0)
    assert part("_scaling").slope([256, 512, 1024], [3.0, 3.0, 3.0]) == pytest.approx(0.0)


def test_the_layers_that_can_be_asked_for_are_those_that_are_measured(part):
    assert set(part("_sizes").MIXING) == set(part("_scaling").LAYERS)


@pytest.mark.parametrize("name", ["eager", "window", "rnn", "dense", "rope", "alibi"])
def test_every_layer_agrees_with_its_plain_path(name, part):
    options = Namespace(radius=2, device="cpu")
    checked = part("_scaling").check(name, part("_sizes").SIZES["tiny"], 9, options)
    assert checked["difference"] < 1e-5


def test_growth_is_judged_by_exponent_speed_time_and_memory(part):
    scaling, spread = part("_scaling"), part("_measure").Spread
    names, lengths = ["self_attention", "local_attention", "rope", "fire"], [256, 512]
    times = {(name, length): [length / 256] for name in names for length in lengths}
    times |= {("local_attention", 256): [1.0], ("local_attention", 512): [1.01], ("rope", 512): [2.7]}
    memory = {(name, length): 100.0 for name in names for length in lengths} | {("fire", 512): None}
    judged = scaling.goals(names, lengths, times, memory, {"local_attention": spread(0.02, 0.0, 0.1)})
    assert {goal["what"]: (goal["found"] and goal["found"][0], goal["verdict"]) for goal in judged} == {
        "exponent of local_attention, 256 to 512": (0.02, "met"),
        "local_attention at 512, speed": (1.98, "met"),
        "rope at 512, time": (1.35, "missed"),
        "rope at 512, memory": (1.0, "met"),
        "fire at 512, time": (None, "missed"),
        "fire at 512, memory": (None, "missed"),
    }


def test_memory_that_the_machine_has_not_is_no_figure(part):
    peak = part("_children").in_a_child(too_much)
    assert peak is None


def test_the_memory_of_a_call_is_what_it_held_at_once(part):
    taken = part("_children").in_a_child(forty_megabytes)
    assert 38 < taken < 60


def too_much():
    peak_of = importlib.import_module("benchmarks._children").peak_of
    return peak_of(lambda: lambda: torch.ones(2**50, dtype=torch.uint8), "cpu")


def forty_megabytes():
    peak_of = importlib.import_module("benchmarks._children").peak_of
    return peak_of(lambda: lambda: torch.ones(40 * 2**20, dtype=torch.uint8), "cpu")


def test_the_page_is_written_from_files_and_its_own_text_stays(measure, in_process, part, tmp_path):
    measure("mask")
    file = tmp_path / "mask.json"
    file.with_suffix(".svg").write_text("<svg/>")
    page = tmp_path / "page.md"
    markers = part("_page")
    page.write_text(f"before\n{markers.BEGIN}\nold\n{markers.END}\nafter\n")
    assert in_process("benchmark", "page", file, "--page", page)[0] == 0
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert "## The mask and the slow way" in text and "![The mask and the slow way](mask.svg)" in text
    assert text.count("\n| ") == 2 + 2  # heads, rule, two lengths
    assert in_process("benchmark", "page", file, "--page", page)[0] == 0
    assert page.read_text() == text


def test_the_page_of_the_project_has_a_place_for_tables(part):
    page = (SCRIPTS.parent / "docs" / "performance.md").read_text()
    assert "## Training" in part("_page").fill_page(page, [(trained(), None)])


@pytest.mark.parametrize("name", ["performance", "serving"])
def test_the_tables_of_a_page_of_the_project_are_those_of_the_files_beside_it(name, part):
    page = SCRIPTS.parent / "docs" / f"{name}.md"
    text, results = page.read_text(encoding="utf-8"), []
    for path in sorted(page.with_suffix("").glob("*.json")):
        drawn = path.with_suffix(".svg")
        results.append((part("_page").read(path), f"{name}/{drawn.name}" if drawn.is_file() else None))
    assert results and part("_page").fill_page(text, results) == text


def trained():
    """What a run may have written, with a goal that is missed and a peer that is left out."""
    return {
        "benchmark": "train", "settings": {"size": "small", "dataset": None}, "left_out": {"x-transformers": "gone"},
        "surroundings": {"device": "a CPU", "threads": 2, "versions": {"torch": "2", "ctranslate2": None},
                         "commit": "abc", "date": "2026-01-02T03:04+00:00"},
        "peaks": {"matmul_gflops": 92.4, "stream_gb_s": 27.0}, "checks": [{"difference": 2e-6}],
        "goals": [{"what": "random", "goal": "at least 2.4", "found": [2.31, 2.2, 2.4], "verdict": "missed"}],
        "rows": [{"side": "selfattn", "tokens_per_second": 2345.6, "share": None}],
    }  # fmt: skip


def test_a_section_says_what_was_found_where(part):
    text = part("_page").section(trained(), None)
    assert "`scripts/benchmark.py train --size small`" in text
    assert "a CPU, 2 threads; torch 2; commit abc, 2026-01-02. Peaks: matrix product 92 GFLOP/s" in text
    assert "Largest difference from the plain path: 2e-06. Left out: x-transformers (gone)." in text
    assert "| random | at least 2.4 | 2.31 (2.2-2.4) | missed  |" in text
    assert "| selfattn |             2,346 | -     |" in text


@pytest.mark.parametrize(
    ("content", "reason"), [("no JSON", "is no JSON"), ("[]", "holds figures of none of"), ("{}", "of none of")]
)
def test_a_file_that_no_benchmark_wrote_is_refused(content, reason, in_process, tmp_path):
    (tmp_path / "other.json").write_text(content)
    code, _, err = in_process("benchmark", "page", tmp_path / "other.json", "--page", tmp_path / "page.md")
    assert code == 2 and reason in err


def test_a_page_without_a_place_for_tables_is_refused(part):
    with pytest.raises(ValueError, match="has no place for its tables"):
        part("_page").fill_page("text", [(trained(), None)])


def test_help_imports_nothing_that_takes_time():
    asked = (
        "import runpy, sys; sys.argv = ['benchmark.py', '--help']\n"
        f"try: runpy.run_path({str(SCRIPTS / 'benchmark.py')!r}, run_name='__main__')\n"
        "except SystemExit: print(sorted({'torch', 'transformers', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", asked], capture_output=True, text=True, check=True, env={"PYTHONPATH": str(SCRIPTS)}
    )
    assert done.stdout.splitlines()[-1] == "[]"
    assert all(name in done.stdout for name in [*TINY, "page"])


def test_no_repeats_are_refused(in_process):
    code, _, err = in_process("benchmark", "mask", "--repeats", 0)
    assert code == 2 and "starts at 1" in err
