"""What is exported writes what the model writes: every engine beside PyTorch, and refusals with their reasons."""

import json
import pickle
import pickletools
import shutil
import subprocess
import sys
import zipfile

import pytest
import torch

from selfattn_hf import Translator
from selfattn_hf.inference import export_folder
from selfattn_hf.inference.export_ctranslate2 import check_ctranslate2, export_ctranslate2
from selfattn_hf.inference.export_rows import reference, until_end
from selfattn_hf.inference.export_steps import ExportError, check_exportable
from selfattn_hf.inference.export_torch import export_torch
from selfattn_hf.inference.exporting import MismatchError, compare

# What the exporters say of their own parts, and PyTorch of its own.
OTHERS = ("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
others_may_warn = pytest.mark.filterwarnings(*OTHERS)


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


def blurred(model):
    """The same model with every number moved, biases, norms and tables included, so that none can be forgotten."""
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    return model.eval()


def is_pickle(data):
    """A pickle, or torch's archive of one. Raw weights may begin with the same byte, so it is read to its end."""
    if not data.startswith(b"\x80"):
        return data.startswith(b"PK")
    try:
        *_, (_, _, end) = pickletools.genops(data)
    except ValueError:
        return False
    return end == len(data) - 1


def rows(size, *lengths):
    return [[*torch.randint(4, size, (length,)).tolist(), 2] for length in lengths]


@others_may_warn
@pytest.mark.parametrize(
    ("encoder", "decoder", "more"),
    [
        ("rope", "t5", {"norm": "post", "feedforward": "swiglu", "norm_type": "rms_norm"}),
        slow("learned", "kerple", {"encoder_mixer": "dense", "attention_score": "additive"}),
        slow("shaw", "fire", {"attention_score": "dot", "residual": False, "norm": "none"}),
        slow("transformer_xl", ["alibi", "learned"], {"position_injection": "block", "position_combine": "concat"}),
        slow("t5", "none", {"feedforward": "none", "tie_word_embeddings": False, "output_bias": True}),
        slow("none", "shaw", {"encoder_mixer": "dense", "share_layers": True, "decoder_layers": 2}),
    ],
)
def test_a_graph_of_torch_writes_what_the_model_writes(make_model, tokenizers, tmp_path, encoder, decoder, more):
    model = blurred(make_model(encoder_position_encoding=encoder, decoder_position_encoding=decoder, **more))
    write = export_torch(model, tokenizers, tmp_path, False)()
    with zipfile.ZipFile(tmp_path / "decoder.pt2") as archive:
        assert is_pickle(pickle.dumps(torch.ones(2)))
        assert not [name for name in archive.namelist() if is_pickle(archive.read(name))]
    for lengths in ((0,), (6,), (2, 9, 4, 1)):  # one token; one row; rows of several lengths
        ids = rows(model.config.vocab_size, *lengths)
        assert [until_end(row, {2}) for row in write(ids, 9)] == reference(model, ids, 9)


@pytest.fixture(scope="module")
def onnx_folder(saved, tmp_path_factory):
    pytest.importorskip("onnxruntime", reason="onnxruntime is an extra")
    pytest.importorskip("onnxscript", reason="onnxscript is an extra")
    folder = tmp_path_factory.mktemp("onnx") / "out"
    return export_folder(saved, "onnx", folder)


@others_may_warn
def test_an_onnx_folder_is_compared_and_is_whole(onnx_folder):
    assert onnx_folder.equal == onnx_folder.rows == 8
    names = {path.name for path in onnx_folder.folder.iterdir()}
    assert names == {"encoder.onnx", "decoder.onnx", "tokenizer.json", "export.json", "runner.py"}
    assert str(onnx_folder).startswith("compared: 8 of 8 greedy answers")


@others_may_warn
def test_an_onnx_folder_translates_without_torch_and_transformers(onnx_folder, translator, sentences, tmp_path):
    """In a process that cannot import them, nor this package, from a place of its own."""
    folder = tmp_path / "elsewhere"
    shutil.copytree(onnx_folder.folder, folder)
    code = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'selfattn_hf'): sys.modules[name] = None\n"
        "import json, runner\n"
        "print(json.dumps(runner.OnnxTranslator('.', 1)(json.loads(sys.argv[1]))))\n"
    )
    texts = [*sentences, "", "two men walk in the sun", "snow </s> in <pad> the sun"]
    done = subprocess.run(
        [sys.executable, "-P", "-c", f"import sys; sys.path.insert(0, '.')\n{code}", json.dumps(texts)],
        cwd=folder, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == translator(texts, num_beams=1)


@others_may_warn
def test_onnx_in_8_bits_is_smaller_and_near(onnx_folder, tmp_path):
    import onnx

    from selfattn_hf.inference.export_onnx import _round, open_onnx

    folder = tmp_path / "rounded"
    shutil.copytree(onnx_folder.folder, folder)
    ids = rows(30, 3, 5, 4)
    whole = open_onnx(folder)(ids, 8)
    for name in ("encoder", "decoder"):
        _round(folder / f"{name}.onnx")
    assert {path.name for path in folder.glob("*.onnx")} == {"encoder.onnx", "decoder.onnx"}
    kinds = {node.op_type for node in onnx.load(folder / "encoder.onnx").graph.node}
    assert {"DynamicQuantizeLinear", "MatMulInteger"} <= kinds
    assert (folder / "encoder.onnx").stat().st_size < (onnx_folder.folder / "encoder.onnx").stat().st_size
    first = [row[:1] for row in open_onnx(folder)(ids, 8)]
    assert first == [row[:1] for row in whole]


CTRANSLATE2 = {
    **{name: {"position_encoding": name} for name in ("none", "sinusoidal", "learned", "rope", "shaw", "t5")},
    "alibi in the decoder": {"decoder_position_encoding": "alibi"},
    "halves": {"sinusoid_layout": "halves", "norm": "post", "feedforward": "gelu", "scale_embedding": False},
    "t5 1.1": {"position_encoding": "t5", "norm_type": "rms_norm", "feedforward": "geglu", "bias": False,
               "tie_word_embeddings": False, "relative_num_buckets": 8, "relative_max_distance": 10},
    "wide heads": {"head_dim": 20, "embedding_norm": True, "output_bias": True, "norm_eps": 1e-2},
    "shared": {"share_layers": True, "encoder_layers": 2, "decoder_layers": 2, "feedforward": "silu"},
    "gated": {"feedforward": "swiglu", "position_encoding": "rope", "rope_theta": 100.0},
}  # fmt: skip


@pytest.mark.parametrize("switches", CTRANSLATE2.values(), ids=CTRANSLATE2)
def test_ctranslate2_scores_and_writes_as_the_model(make_model, tokenizers, tmp_path, switches):
    ctranslate2 = pytest.importorskip("ctranslate2", reason="CTranslate2 is an extra")
    model = blurred(make_model(max_position_embeddings=32, **switches))
    write = export_ctranslate2(model, tokenizers, tmp_path, False)()
    ids, answers = rows(model.config.vocab_size, 3, 11, 1), rows(model.config.vocab_size, 12, 5, 7)
    words = tokenizers.source.convert_ids_to_tokens
    scores = ctranslate2.Translator(str(tmp_path), intra_threads=1).score_batch(
        [words(row) for row in ids], [words(row[:-1]) for row in answers]
    )
    for source, target, found in zip(ids, answers, scores, strict=True):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([source]), labels=torch.tensor([target])).logits
        expected = logits[0].log_softmax(-1).gather(1, torch.tensor(target)[:, None])[:, 0]
        torch.testing.assert_close(torch.tensor(found.log_probs), expected, rtol=0, atol=1e-4)
    assert [until_end(row, {2}) for row in write(ids, 9)] == reference(model, ids, 9)


def test_ctranslate2_in_8_bits_leaves_the_model_as_it_was(translator, tokenizers, sentences, tmp_path):
    pytest.importorskip("ctranslate2", reason="CTranslate2 is an extra")
    before = translator(sentences)
    weights = {name: weight.clone() for name, weight in translator.model.named_parameters()}
    write = export_ctranslate2(translator.model, tokenizers, tmp_path, True)()
    assert all(torch.equal(weight, weights[name]) for name, weight in translator.model.named_parameters())
    ids = [tokenizers.source(text)["input_ids"] for text in sentences]
    assert tokenizers.target.batch_decode(write(ids, 20), skip_special_tokens=True) == before


REFUSED = {
    "encoder_mixer='rnn'": {"encoder_mixer": "rnn", "encoder_position_encoding": "none"},
    "decoder_mixer='window'": {"decoder_mixer": "window", "decoder_position_encoding": "none"},
    "encoder_mixer='local_attention'": {"encoder_mixer": "local_attention"},
    "encoder_position_encoding=tree_depth": {"encoder_position_encoding": "tree_depth"},
    "future_mask=False": {"future_mask": False, "use_cache": False},
}


@pytest.mark.parametrize(("words", "switches"), REFUSED.items(), ids=REFUSED)
def test_a_graph_that_would_not_be_right_for_every_length_is_refused(make_model, words, switches):
    config = make_model(**switches).config
    for check in (lambda: check_exportable(config, "ONNX"), lambda: check_ctranslate2(config)):
        with pytest.raises(ExportError, match=r"cannot hold this model: .+\. (Use|Choose|Train) .+\."):
            check()
    with pytest.raises(ExportError, match=words):
        check_exportable(config, "ONNX")


@pytest.mark.parametrize(
    ("words", "switches"),
    [
        ("encoder's position_encoding is alibi", {"position_encoding": "alibi"}),
        ("position_encoding is sinusoidal, rope", {"position_encoding": ["sinusoidal", "rope"]}),
        ("decoder's position_encoding is fire", {"decoder_position_encoding": "fire"}),
        ("attention_score='additive'", {"attention_score": "additive"}),
        ("norm='none'", {"norm": "none"}),
        ("feedforward='none'", {"feedforward": "none"}),
        ("residual=False", {"residual": False}),
        ("position_combine='concat'", {"position_combine": "concat"}),
        ("position_injection='block'", {"position_injection": "block"}),
        ("encoder_mixer='dense'", {"encoder_mixer": "dense"}),
    ],
)
def test_what_ctranslate2_has_no_place_for_is_refused_by_name(make_model, words, switches):
    with pytest.raises(ExportError, match=f"CTranslate2 cannot hold this model: .*{words}"):
        check_ctranslate2(make_model(**switches).config)


def test_a_model_that_differs_from_its_export_is_an_error(translator, tmp_path):
    """A control: an engine that forgets every third token."""

    def wrong(ids, most):
        return [[7, *row] for row in reference(translator.model, ids, most)]

    with pytest.raises(MismatchError, match=r"8 of 8 answers .+ are not those of the model; row 0"):
        compare(translator, wrong, tmp_path, texts=[], rows=8, int8=False)
    assert compare(translator, wrong, tmp_path, texts=[], rows=8, int8=True).equal == 0


def test_the_script_exports_compares_and_says_so(in_process, saved, tmp_path, sentences):
    pytest.importorskip("ctranslate2", reason="CTranslate2 is an extra")
    lines = tmp_path / "lines.txt"
    lines.write_text("\n".join(sentences) + "\n")
    out = tmp_path / "ct2"
    code, printed, error = in_process("export", saved, "--to", "ctranslate2", "--output", out, "--text", lines)
    assert code == 0, error
    assert printed.startswith("compared: 6 of 6 greedy answers") and f"written to {out}" in printed
    assert {"model.bin", "config.json", "tokenizer.json", "export.json"} <= {path.name for path in out.iterdir()}
    code, _, error = in_process("export", saved, "--to", "ctranslate2", "--output", out)
    assert code == 2 and f"{out} is not empty" in error
    code, _, error = in_process("export", saved, "--to", "torch", "--int8", "--output", tmp_path / "new")
    assert code == 2 and "int8 is a matter of the engine" in error and not (tmp_path / "new").exists()


def test_settings_of_generation_that_an_export_passes_over_are_named(make_model, tokenizers, tmp_path):
    model = make_model()
    model.generation_config.num_beams = 5
    model.generation_config.no_repeat_ngram_size = 3
    translator = Translator(model, tokenizers)
    report = compare(translator, lambda ids, most: reference(model, ids, most), tmp_path, texts=[], rows=2, int8=False)
    assert report.left_out == ["num_beams=5", "no_repeat_ngram_size=3"]
