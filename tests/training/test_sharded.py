"""A model that is cut among two processes learns what it learns in one piece, and is put together again."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from selfattn_hf.training import make_settings, train
from selfattn_hf.training.sharded import gather_shards

from .conftest import write_rows
from .sharded_processes import CASES, made

WORKER = Path(__file__).with_name("sharded_processes.py")


@pytest.fixture(scope="module")
def cut(tmp_path_factory):
    """Folder of what two processes wrote, and what they found."""
    folder = tmp_path_factory.mktemp("sharded")
    data = folder / "data"
    data.mkdir()
    files = {split: write_rows(data / f"{split}.jsonl", rows, 1) for split, rows in (("train", 40), ("validation", 5))}
    train(make_settings({
        "dataset": files, "source_column": "source", "target_column": "target", "tokenizer_type": "word",
        "hidden_size": 16, "encoder_layers": 1, "decoder_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
        "dropout": 0.0, "max_steps": 1, "predict_with_generate": False, "metric": "token_accuracy",
        "output_dir": str(folder / "model"), "use_cpu": True,
    }))  # fmt: skip
    example = [str(folder / "model"), "--data", str(data), "--output", str(folder / "tuned"), "--steps", "5", "--batch",
               "8", "--learning_rate", "1e-2", "--use_cpu"]  # fmt: skip
    (folder / "example.json").write_text(json.dumps(example))
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(WORKER),
         str(folder)],
        capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return folder, [json.loads((folder / f"found_{rank}.json").read_text()) for rank in (0, 1)], done.stdout


@pytest.mark.parametrize("case", CASES)
def test_losses_and_texts_are_those_of_one_piece(cut, case):
    _, found, _ = cut
    for here in found:
        one, two = here[case]["losses"]
        assert two == pytest.approx(one, abs=1e-4)
        assert here[case]["texts"][0] == here[case]["texts"][1]
    whole = sum(weight.numel() for weight in made(CASES[case]).parameters())
    held = [here[case]["held"] for here in found]
    assert sum(held) == whole and max(held) < 0.6 * whole


@pytest.mark.parametrize("case", CASES)
def test_parts_are_safetensors_and_make_a_folder_that_auto_classes_open(cut, case, tmp_path):
    folder, _, _ = cut
    written = {path.suffix for path in (folder / case).rglob("*") if path.is_file()}
    assert written == {".safetensors"}
    gather_shards(made(CASES[case]), folder / case / "end", tmp_path / "whole")
    model = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "whole")
    one = AutoModelForSeq2SeqLM.from_pretrained(folder / f"{case} in one piece")
    names = set(load_file(tmp_path / "whole" / "model.safetensors"))
    assert names == set(load_file(folder / f"{case} in one piece" / "model.safetensors"))
    ids = torch.randint(3, 41, (2, 5))
    logits = [each(input_ids=ids, decoder_input_ids=ids).logits for each in (model, one)]
    torch.testing.assert_close(*logits, atol=1e-4, rtol=1e-4)


def test_parts_of_another_model_are_refused(cut, tmp_path):
    folder, _, _ = cut
    with pytest.raises(ValueError, match="holds parts of another model, or not all of them"):
        gather_shards(made({"hidden_size": 32}), folder / "tied", tmp_path / "out")
    with pytest.raises(ValueError, match="holds no parts of a model"):
        gather_shards(made({}), folder / "data", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_example_trains_and_leaves_a_whole_model(cut):
    folder, _, printed = cut
    held = [int(text.replace(",", "")) for text in re.findall(r"holds ([\d,]+) numbers", printed)]
    model, tokenizer = (auto.from_pretrained(folder / "tuned") for auto in (AutoModelForSeq2SeqLM, AutoTokenizer))
    assert sum(held) == model.num_parameters() and len(held) == 2
    losses = [float(line.split("loss ")[1]) for line in printed.splitlines() if line.startswith("step ")]
    assert losses[-1] < losses[0]
    assert model.generate(**tokenizer("a b", return_tensors="pt"), max_new_tokens=3).shape[0] == 1
