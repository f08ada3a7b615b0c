"""The arithmetic of docs/scaling.md against models that are really there, and the files for `accelerate launch`."""

from pathlib import Path

import pytest
import torch
import yaml
from accelerate.commands.config.config_args import load_config_from_file

from selfattn_hf import SelfAttnConfig, SelfAttnForConditionalGeneration
from selfattn_hf.training.scaling import activations_of, need, parts_of

ROOT = Path(__file__).parents[2]
SMALL = {
    "vocab_size": 50, "hidden_size": 32, "encoder_layers": 2, "decoder_layers": 3, "num_attention_heads": 2,
    "intermediate_size": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1,
}  # fmt: skip


@pytest.mark.parametrize("switches", [{}, {"tie_word_embeddings": False}, {"share_layers": True}])
def test_parameters_are_those_of_the_model(switches):
    config = SelfAttnConfig(**SMALL, **switches)
    model = SelfAttnForConditionalGeneration(config)
    whole, layer, outside = parts_of(config)
    assert whole == model.num_parameters()
    assert layer == sum(weight.numel() for weight in model.get_decoder().layers[0].parameters())
    in_layers = sum(weight.numel() for name, weight in model.named_parameters() if ".layers." in name)
    assert outside == whole - in_layers


def test_what_is_held_and_sent_follows_the_formulas():
    config = SelfAttnConfig(**SMALL)
    whole, layer, outside = parts_of(config)
    one, eight = (need(config, count, 4, 16, cut=False) for count in (1, 8))
    assert one.total - one.activations == 16 * whole == eight.total - eight.activations
    assert one.sent == 0 and eight.sent == pytest.approx(2 * 7 / 8 * 4 * whole)
    cut = need(config, 8, 4, 16, cut=True)
    assert (cut.gradients, cut.optimizer) == (4 * whole / 8, 8 * whole / 8)
    assert cut.weights == 4 * whole / 8 + 2 * (outside + 2 * layer)
    assert cut.sent == pytest.approx(7 / 8 * (2 + 2 + 4) * whole)
    assert cut.total < eight.total


def test_activations_are_about_what_autograd_keeps():
    config = SelfAttnConfig(**SMALL, dropout=0.0)
    model, kept = SelfAttnForConditionalGeneration(config).train(), {}
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}

    def note(tensor):
        place = tensor.untyped_storage().data_ptr()
        if place not in weights and tensor.is_floating_point():
            kept[place] = (tensor, tensor.untyped_storage().nbytes())
        return tensor

    ids = torch.randint(3, 50, (4, 24))
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        model(input_ids=ids, labels=ids, loss_only=True)
    measured = sum(size for _, size in kept.values())
    assert activations_of(config, 4, 24, size=4) == pytest.approx(measured, rel=0.35)


def test_the_page_holds_what_the_script_prints(in_process):
    code, printed, errors = in_process("scaling_figures")
    assert (code, errors) == (0, "")
    page = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    assert printed.strip() in page


def test_the_script_counts_for_a_settings_file(in_process):
    code, printed, _ = in_process("scaling_figures", ROOT / "configs" / "quickstart.yaml", "--gpus", "4")
    assert code == 0 and printed.count("\n| 4 |") == 2
    for wrong in (["--gpus", "none"], ["--gpu", "4"], ["a.yaml", "b.yaml"]):
        code, _, errors = in_process("scaling_figures", *wrong)
        assert code == 2 and errors.startswith("scaling_figures.py: error: ")


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "accelerate").glob("*.yaml")), ids=lambda path: path.stem)
def test_accelerate_takes_the_file(path):
    loaded = load_config_from_file(str(path))
    given = yaml.safe_load(path.read_text())
    assert loaded.distributed_type.value == given["distributed_type"]
    assert loaded.num_processes == 2 and loaded.use_cpu == (path.stem == "ddp_cpu")
    names = loaded.fsdp_config.get("fsdp_transformer_layer_cls_to_wrap") if path.stem == "fsdp2" else None
    assert names is None or set(names.split(",")) == set(SelfAttnForConditionalGeneration._no_split_modules)
