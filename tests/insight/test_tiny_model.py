"""The model inside the page computes what PyTorch does: run in headless Chromium and under node, where they are."""

import base64
import csv
import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from datasets import Dataset

from selfattn_hf import SelfAttnConfig, SelfAttnForCausalLM, SelfAttnForConditionalGeneration
from selfattn_hf.data import DataSettings, train_tokenizers
from selfattn_hf.insight import attention_maps, pair_of, tiny_model
from selfattn_hf.insight.tiny_model import MOST_PARAMETERS, SERVED_POSITIONS, pack_model
from selfattn_hf.model.layers import MIXERS
from selfattn_hf.model.positions import POSITIONS

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path(tiny_model.__file__).parent / "page" / "tiny_model.js"
ENGINES = {"chromium": shutil.which("chromium"), "node": shutil.which("node")}
ODD_TEXTS = [
    "", " ", "a", "THE Third  of\tMarch\n", "Zoë’s naïve ½ x²٣ it's they'LL 12's _under_score", "</s> <s><unk> <pad>",
    "e\u0301 \ud7a3\u00a0\u2028 \u0085\ufeffq", "日本語 3月3日 🙂🙃 -- ... 1/2", "ΟΔΟΣ İstanbul ǅ", "x " * 40,
]  # fmt: skip
SWITCHES = {
    "lecture_3": {"position_encoding": "none", "feedforward": "none", "norm": "none", "num_attention_heads": 1},
    "lecture_4": {"feedforward": "none", "norm": "none", "num_attention_heads": 1},
    "lecture_6_off": {"norm": "none", "num_attention_heads": 1, "future_mask": False},
    "lecture_7": {},
    "post": {"norm": "post", "feedforward": "gelu"},
    "rms": {"norm_type": "rms_norm", "norm_eps": 1e-3, "feedforward": "swiglu", "embedding_norm": True},
    "bare": {"norm": "none", "residual": False, "feedforward": "silu"},
    "no_bias": {"bias": False, "feedforward": "geglu", "output_bias": True, "scale_embedding": False},
    "untied": {"tie_word_embeddings": False, "attention_score": "dot"},
    "shared": {"share_layers": True, "attention_score": "general"},
    "additive": {"attention_score": "additive", "attend_to": "embeddings"},
    "head_dim": {"head_dim": 6, "position_encoding": ["rope", "shaw"], "relative_max_distance": 3},
    "block": {"position_injection": "block", "attend_to": "embeddings"},
    "concat": {"position_combine": "concat", "position_encoding": "learned"},
    "block_concat": {"position_combine": "concat", "position_injection": "block", "sinusoid_layout": "halves"},
    "several": {"position_encoding": ["learned", "alibi", "t5"], "relative_num_buckets": 8, "relative_max_distance": 9},
    "two_sides": {"encoder_position_encoding": "t5", "decoder_position_encoding": "rope", "rope_theta": 50},
    **{position: {"position_encoding": position} for position in SERVED_POSITIONS},
}


def data_settings(**values):
    return DataSettings(**{"dataset": "x", "tokenizer_vocab_size": 320, **values})


def tokenizers_of(rows, **values):
    return train_tokenizers(data_settings(**values), Dataset.from_list(rows))


@pytest.fixture(scope="module")
def rows():
    with (ROOT / "configs/quickstart_data/train.csv").open(encoding="utf-8") as file:
        return [{"source": row["text"], "target": row["iso"]} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def tokenizers(rows):
    return {
        "bpe": tokenizers_of(rows),
        "lower": tokenizers_of(rows, lowercase=True),
        "word": tokenizers_of(rows, tokenizer_type="word"),
        "two": tokenizers_of(rows, tokenizer_shared=False, tokenizer_type="word"),
    }


def tiny(vocab_size, **switches):
    """A model whose every weight is away from its special value, heads for 4 and rows up to 64 tokens."""
    torch.manual_seed(3)
    config = SelfAttnConfig(**{
        "vocab_size": vocab_size, "hidden_size": 16, "encoder_layers": 2, "decoder_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 24, "max_position_embeddings": 64, **switches,
    })  # fmt: skip
    model = SelfAttnForConditionalGeneration(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
    return model


@pytest.fixture(scope="module")
def cases(tokenizers, rows):
    """Name -> model, tokenizers, source and target ids, texts to tokenize."""
    made = {}
    for name, switches in SWITCHES.items():
        model = tiny(tokenizers["bpe"].vocab_size, **switches)
        source, target = torch.randint(3, 300, (13,)).tolist(), [1, *torch.randint(3, 300, (9,)).tolist()]
        made[name] = (model, tokenizers["bpe"], source, target, [])
    for name, both in tokenizers.items():
        texts = [row["source"] for row in rows[:300]] + [row["target"] for row in rows[:300]] + ODD_TEXTS
        made[f"tokenizer_{name}"] = (tiny(both.vocab_size), both, [5, 6, 2], [1, 7], texts)
    return made


RUN = """
const answers = {};
for (const [name, one] of Object.entries(CASES)) {
  const model = new TinyModel(one.packed);
  answers[name] = {
    logits: model.logits(one.source, one.target).map((row) => Array.from(row)),
    tokenized: one.texts.map((text) => model.tokenize(text)),
    decoded: one.texts.map((text) => model.source.decode(model.tokenize(text))),
    answer: model.answer(one.ask, 12),
  };
}
"""


def execute(engine, program, folder):
    """What the program leaves in `answers`, as JSON."""
    if ENGINES[engine] is None:
        pytest.skip(f"needs {engine}, and there is none here")
    if engine == "node":
        (folder / "run.js").write_text(
            f"const TinyModel = require({json.dumps(str(SCRIPT))});\n{program}\nconsole.log(JSON.stringify(answers));"
        )
        done = subprocess.run([ENGINES[engine], folder / "run.js"], capture_output=True, text=True, check=True)
        return json.loads(done.stdout)
    page = folder / "page.html"
    page.write_text(
        f'<!doctype html><meta charset="utf-8"><pre id="out"></pre><script>{SCRIPT.read_text()}</script><script>'
        f'{program}\ndocument.getElementById("out").textContent = btoa(JSON.stringify(answers).replace(/[^\\0-\\x7f]/g,'
        ' (letter) => "\\\\u" + letter.charCodeAt(0).toString(16).padStart(4, "0")));</script>',
        encoding="utf-8",
    )
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}", "--dump-dom"]
    done = subprocess.run([ENGINES[engine], *options, page.as_uri()], capture_output=True, text=True, timeout=120)
    encoded = done.stdout.partition('<pre id="out">')[2].partition("</pre>")[0]
    assert encoded, f"the page stopped with an error: {done.stderr[-2000:]}"
    return json.loads(base64.b64decode(encoded))


@pytest.fixture(scope="module", params=list(ENGINES))
def answers(request, cases, tmp_path_factory):
    given = {
        name: {"packed": pack_model(model, both), "source": source, "target": target, "texts": texts,
               "ask": "the third of March, nineteen sixty-two"}
        for name, (model, both, source, target, texts) in cases.items()
    }  # fmt: skip
    program = f"const CASES = {json.dumps(given)};\n{RUN}"
    return execute(request.param, program, tmp_path_factory.mktemp(request.param))


@pytest.mark.parametrize("name", SWITCHES)
def test_the_logits_in_the_page_are_those_of_the_model(name, answers, cases):
    model, _, source, target, _ = cases[name]
    with torch.no_grad():
        expected = model(torch.tensor([source]), decoder_input_ids=torch.tensor([target]), use_cache=False).logits[0]
    torch.testing.assert_close(torch.tensor(answers[name]["logits"]), expected, atol=1e-4, rtol=0)
    assert expected.std() > 0.1


def test_other_weights_or_another_switch_would_be_found(answers, cases):
    """The bound is far below what a switch changes."""
    model, _, source, target, _ = cases["lecture_7"]
    given = torch.tensor(answers["lecture_7"]["logits"])
    for name in ("rope", "post"):
        assert (torch.tensor(answers[name]["logits"]) - given).abs().max() > 0.01
    with torch.no_grad():
        model.lm_head.weight[0, 0] += 0.01
        changed = model(torch.tensor([source]), decoder_input_ids=torch.tensor([target]), use_cache=False).logits[0]
        model.lm_head.weight[0, 0] -= 0.01
    assert (changed - given).abs().max() > 1e-4


@pytest.mark.parametrize("name", SWITCHES)
def test_the_answer_in_the_page_and_its_maps_are_those_of_the_model(name, answers, cases):
    model, both, _, _, _ = cases[name]
    answer = answers[name]["answer"]
    read = [model.config.decoder_start_token_id]
    source = torch.tensor([answer["sourceIds"]])
    with torch.no_grad():
        while len(read) <= 12 and read[-1] != 2:
            logits = model(source, decoder_input_ids=torch.tensor([read]), use_cache=False).logits
            read.append(int(logits[0, -1].argmax()))
    assert answer["targetIds"] == read[1:]
    assert answer["text"] == both.target.decode(read[1:], skip_special_tokens=True)
    pair = pair_of(model, answer["sourceIds"], read[1:], tokenizers=both)
    maps = attention_maps(model, pair)
    assert answer["sourceTokens"] == pair.source_tokens
    assert answer["targetTokens"] == pair.written_tokens
    assert answer["readTokens"] == pair.target_tokens
    for which in ("encoder", "decoder", "cross"):
        given, expected = torch.tensor(answer[which]), torch.tensor(getattr(maps, which))
        torch.testing.assert_close(given, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["bpe", "lower", "word", "two"])
def test_the_page_tokenizes_as_the_tokenizer(kind, answers, cases):
    _, both, _, _, texts = cases[f"tokenizer_{kind}"]
    given = answers[f"tokenizer_{kind}"]
    for text, ids, decoded in zip(texts, given["tokenized"], given["decoded"], strict=True):
        assert ids == both.source(text)["input_ids"], text
        assert decoded == both.source.decode(ids, skip_special_tokens=True), text


def test_every_weight_travels_once_and_the_count_is_theirs(tokenizers):
    model = tiny(tokenizers["bpe"].vocab_size)
    packed = pack_model(model, tokenizers["bpe"])
    numbers = [torch.Size(weight["shape"]).numel() for weight in packed["weights"].values()]
    assert sum(numbers) == packed["parameters"] == model.num_parameters()
    assert set(packed["weights"]) | set(packed["same"]) == set(model.state_dict())
    assert len(json.dumps(packed)) < 6 * packed["parameters"] + 40_000


@pytest.mark.parametrize("other", [name for name in MIXERS if name != "self_attention"])
def test_another_mixer_is_refused(other, tokenizers):
    model = tiny(320, encoder_mixer=["self_attention", other], position_encoding="none")
    with pytest.raises(ValueError, match=f"self_attention in every layer, and encoder_mixer has {other}"):
        pack_model(model, tokenizers["bpe"])


@pytest.mark.parametrize("unknown", [name for name in POSITIONS if name not in ("none", *SERVED_POSITIONS)])
def test_another_encoding_is_refused(unknown, tokenizers):
    model = tiny(320, encoder_position_encoding=unknown)
    with pytest.raises(ValueError, match=f"the encoder's position_encoding has {unknown}"):
        pack_model(model, tokenizers["bpe"])


def test_a_larger_model_is_refused_with_its_count(tokenizers):
    model = tiny(320, hidden_size=64)
    assert model.num_parameters() > MOST_PARAMETERS
    with pytest.raises(ValueError, match=f"at most 100,000 parameters, and this one has {model.num_parameters():,}"):
        pack_model(model, tokenizers["bpe"])


def test_another_head_another_tokenizer_and_one_of_another_model_are_refused(tokenizers, rows):
    alone = SelfAttnForCausalLM(tiny(320).config.decoder_alone())
    with pytest.raises(ValueError, match="got SelfAttnForCausalLM"):
        pack_model(alone, tokenizers["bpe"])
    unigram = tokenizers_of(rows[:500], tokenizer_type="unigram")
    with pytest.raises(ValueError, match="tokenizes as tokenizer_type=bpe and word do.*Unigram"):
        pack_model(tiny(unigram.vocab_size), unigram)
    with pytest.raises(ValueError, match="must know every token"):
        pack_model(tiny(100), tokenizers["bpe"])
    from tokenizers import normalizers

    changed = tokenizers_of(rows[:500])
    changed.source.backend_tokenizer.normalizer = normalizers.NFC()
    with pytest.raises(ValueError, match="another one: NFC; Digits, ByteLevel; BPE"):
        pack_model(tiny(changed.vocab_size), changed)
