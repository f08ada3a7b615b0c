"""The bad model folders: what is wrong in each, and what a refusal must name."""

import struct

import torch
from _folders import (
    MODELS,
    RUNS,
    STRANGERS,
    WITH_WEIGHTS,
    Case,
    config,
    content,
    cut,
    encoder_alone,
    header,
    json_file,
    outside,
    outside_by_root,
    pickled_weights,
    renamed,
    sharded,
    shards_renamed,
    tensor,
    tensors,
    tokenizer,
    torch_weights,
    with_three_tables,
    without,
    without_a_head,
)

HUGE = 10**12
# Where config.json itself cannot be read: the Auto classes read it before they know whose it is, and fail in their way.
OURS = RUNS

SIZES = [
    Case(f"config: {name} {word}", config(**{name: value}), (name, str(value)))
    for name in ("vocab_size", "hidden_size", "encoder_layers", "decoder_layers", "num_attention_heads",
                 "intermediate_size", "max_position_embeddings")
    for word, value in (("huge", HUGE), ("negative", -4), ("zero", 0))
] + [
    Case("config: head_dim huge", config(head_dim=HUGE), ("head_dim", str(HUGE))),
    Case("config: sizes huge together", config(vocab_size=2**30), ("vocab_size", "hidden_size", str(2**30))),
    Case("config: deep and narrow", config(encoder_layers=10**6, hidden_size=2, num_attention_heads=1),
         ("encoder_layers", "1000000")),
    Case("config: layers within the limit, and none in the file", config(encoder_layers=1000),
         ("encoder_layers", "1000"), WITH_WEIGHTS),
    Case("config: learned places huge", config(position_encoding="learned", max_position_embeddings=10**9),
         ("max_position_embeddings", str(10**9))),
    Case("config: dense places huge", config(encoder_mixer="dense", max_position_embeddings=10**6),
         ("max_position_embeddings", str(10**6))),
    Case("config: window huge", config(encoder_mixer="window", window_radius=10**9), ("window_radius", str(10**9))),
    Case("config: shaw's distance huge", config(position_encoding="shaw", relative_max_distance=HUGE),
         ("relative_max_distance", str(HUGE))),
    Case("config: t5's buckets huge",
         config(position_encoding="t5", relative_num_buckets=4 * 10**9),
         ("relative_num_buckets", str(4 * 10**9))),
    Case("config: num_labels huge", config(num_labels=10**9), ("num_labels", str(10**9))),
    Case("config: a number of 400 digits", config(vocab_size=10**400), ("vocab_size",)),
    Case("config: position_shift huge", config(position_shift=10**30), ("position_shift",)),
]  # fmt: skip

TYPES = [
    Case(f"config: {name} is {value!r}", config(**{name: value}), (name, *words))
    for name, value, *words in (
        ("hidden_size", "16", "'16'"), ("hidden_size", 16.5, "16.5"), ("hidden_size", True), ("hidden_size", None),
        ("hidden_size", [16]), ("vocab_size", {"a": 1}), ("dropout", "0.1"), ("dropout", -0.5), ("dropout", 1),
        ("dropout", float("nan")), ("norm_eps", float("inf")), ("tie_word_embeddings", "yes"),
        ("tie_word_embeddings", 1), ("residual", None), ("encoder_mixer", 5), ("encoder_mixer", {"rnn": 1}),
        ("encoder_mixer", []), ("encoder_mixer", ["rnn"]), ("position_encoding", None), ("pad_token_id", HUGE),
        ("pad_token_id", -1), ("eos_token_id", "2"), ("eos_token_id", [2, HUGE]), ("decoder_start_token_id", 1.5),
        ("num_labels", "3"), ("num_labels", -1), ("id2label", {"a": "b"}), ("id2label", 5), ("dtype", "floaty"),
        ("dtype", "int8"), ("dtype", 5), ("architectures", "SelfAttnModel"), ("problem_type", "ranking"),
    )
]  # fmt: skip

SWITCHES = [
    Case("config: a switch misspelt", renamed("norm", "nrom"), ("nrom", "norm")),
    Case("config: a switch misspelt in the middle", renamed("position_encoding", "postion_encoding"),
         ("postion_encoding", "position_encoding")),
    Case("config: a value misspelt", config(encoder_mixer="self_atention"), ("encoder_mixer", "self_attention")),
    Case("config: a value misspelt in a list", config(position_encoding=["rope", "sinusodal"]),
         ("position_encoding", "sinusodal", "sinusoidal")),
    Case("config: an unknown value", config(feedforward="tanh"), ("feedforward", "tanh", "gelu")),
    Case("config: an unknown field", config(exec="import os"), ("exec",)),
    Case("config: a field of generation", config(num_beams=4), ("num_beams", "GenerationConfig")),
    Case("config: heads that do not divide", config(num_attention_heads=3), ("num_attention_heads", "hidden_size")),
    Case("config: an encoding without affinities", config(encoder_mixer="rnn", position_encoding="rope"),
         ("rope", "rnn")),
    Case("config: a switch that does nothing", config(rope_theta=500), ("rope_theta",)),
    Case("config: weights in a file of another name", config(transformers_weights="../outside.safetensors"),
         ("transformers_weights",)),
    Case("config: attention from the Hub", config(attn_implementation="someone/kernel"),
         ("attn_implementation", "someone/kernel")),
    Case("config: attention that there is not", config(attn_implementation="sdpaa"), ("attn_implementation", "sdpaa")),
    Case("config: a quantisation that there is not", config(quantization_config={"quant_method": "evil"}),
         ("quant", "evil")),
    Case("config: a quantisation that is no dictionary", config(quantization_config=5), ("quantization_config",)),
]  # fmt: skip

FILES = [
    Case("config.json is missing", without("config.json"), ("config.json",)),
    Case("config.json is empty", content("config.json", b""), ("config.json",)),
    Case("config.json breaks off", content("config.json", b'{"model_type": "selfattn", "hid'), ("config.json",)),
    Case("config.json is a list", content("config.json", b"[1, 2]"), ("config.json",)),
    Case("config.json is binary", content("config.json", b"\xff\xfe\x00\x01" * 50), ("config.json",)),
    Case("config.json is nested without end", content("config.json", b'{"a":' * 100_000), ("config.json",), OURS),
    Case("config.json names no type of model", renamed("model_type", ""), ("model_type",), (*OURS, *STRANGERS)),
    Case("config.json names no type of model, and nobody trusts its code", renamed("model_type", ""),
         ("trust_remote_code",), ("AutoConfig", *MODELS)),
    Case("config.json is another model's", config(model_type="bart"), ("bart",), OURS),
    Case("config.json is a model's that nobody knows", config(model_type="selfatn"), ("selfatn",),
         (*OURS, *STRANGERS)),
    Case("config.json is a model's that nobody knows, and nobody trusts its code", config(model_type="selfatn"),
         ("trust_remote_code",), ("AutoConfig", *MODELS)),
    Case("config.json has a number for a type", config(model_type=5), ("5",), OURS),
    Case("config.json has a list for a type", config(model_type=["selfattn"]), ("model_type",), OURS),
    Case("config.json: auto_map is a number", config(auto_map=5), ("auto_map",), OURS),
    Case("no config of a whole model", config(is_encoder_decoder=False, architectures=["SelfAttnForCausalLM"]),
         ("is_encoder_decoder",), WITH_WEIGHTS),
]  # fmt: skip

WEIGHTS = [
    Case("weights: none", without("model.safetensors"), ("model.safetensors",), WITH_WEIGHTS),
    Case("weights: a pickle that runs a command", pickled_weights, ("pytorch_model.bin", "safetensors"), WITH_WEIGHTS),
    Case("weights: a harmless .bin", torch_weights, ("pytorch_model.bin", "safetensors"), WITH_WEIGHTS),
    Case("weights: an empty file", content("model.safetensors", b""), ("model.safetensors",), WITH_WEIGHTS),
    Case("weights: text", content("model.safetensors", b"these are no weights" * 9), ("model.safetensors",),
         WITH_WEIGHTS),
    Case("weights: a pointer of git lfs",
         content("model.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"),
         ("model.safetensors",), WITH_WEIGHTS),
    Case("weights: the header is cut", cut(0.01), ("model.safetensors",), WITH_WEIGHTS),
    Case("weights: the end is cut", cut(0.9), ("model.safetensors",), WITH_WEIGHTS),
    Case("weights: a header of 2^60 bytes", content("model.safetensors", struct.pack("<Q", 2**60) + b"{}"),
         ("model.safetensors",), WITH_WEIGHTS),
    Case("weights: a header that is no JSON", content("model.safetensors", struct.pack("<Q", 6) + b"{what}"),
         ("model.safetensors",), WITH_WEIGHTS),
    Case("weights: tensors that overlap", header(lambda there: {
        name: entry if name == "__metadata__" else entry | {"data_offsets": [0, entry["data_offsets"][1]]}
        for name, entry in there.items()}), ("model.safetensors",), WITH_WEIGHTS),
    Case("weights: a shape that its bytes do not have", header(lambda there: {
        name: entry if name == "__metadata__" else entry | {"shape": [2**40, 2**20]}
        for name, entry in there.items()}), ("model.safetensors",), WITH_WEIGHTS),
    Case("weights: no tensor at all", tensors(lambda there: {"nothing": next(iter(there.values()))}),
         ("encoder.layers.0",), WITH_WEIGHTS),
    Case("weights: one tensor is missing", tensor("decoder.layers.1.think", lambda old: None),
         ("decoder.layers.1.think",), WITH_WEIGHTS),
    Case("weights: a layer is missing",
         tensors(lambda there: {name: old for name, old in there.items() if "encoder.layers.1." not in name}),
         ("encoder.layers.1 is missing",), WITH_WEIGHTS),
    Case("weights: the table is missing", tensor("shared", lambda old: None), ("shared.weight",), WITH_WEIGHTS),
    Case("weights: a tensor is misspelt",
         tensors(lambda there: {name.replace("layers.0.mix", "layers.0.mux"): old for name, old in there.items()}),
         ("layers.0.mux",), WITH_WEIGHTS),
    Case("weights: one tensor too many", tensors(lambda there: there | {"model.encoder.layers.7.x": torch.zeros(2)}),
         ("encoder.layers.7.x",), WITH_WEIGHTS),
    Case("weights: a tensor of another shape", tensor("q_proj.weight", lambda old: old[:, :-1]), ("q_proj.weight",),
         WITH_WEIGHTS),
    Case("weights: a tensor of whole numbers", tensor("q_proj.weight", lambda old: old.long()), ("q_proj.weight",),
         WITH_WEIGHTS),
    Case("weights: of a smaller vocabulary", tensor("shared", lambda old: old[:-3]), ("shared.weight",), WITH_WEIGHTS),
    Case("weights: wider than the config", config(hidden_size=12), ("shared.weight", "12"), WITH_WEIGHTS),
    Case("weights: deeper than the config", config(encoder_layers=1), ("encoder.layers.1",), WITH_WEIGHTS),
    Case("weights: shallower than the config", config(decoder_layers=3), ("decoder", "3"), WITH_WEIGHTS),
    Case("weights: of another mixer", config(encoder_mixer="rnn"), ("encoder.layers.0",), WITH_WEIGHTS),
    Case("weights: of another norm", config(norm="none"), (".mix.before.",), WITH_WEIGHTS),
    Case("weights: of another encoding", config(position_encoding="shaw"), ("position",), WITH_WEIGHTS),
    Case("weights: of one table, and the config wants three", config(tie_word_embeddings=False),
         ("embed_tokens",), WITH_WEIGHTS),
    Case("weights: of three tables, and the config wants one", tensors(with_three_tables),
         ("decoder.embed_tokens.weight", "tie_word_embeddings"), WITH_WEIGHTS),
    Case("weights: a part of a distributed checkpoint",
         content("shard-00001-model-00001-of-00001.safetensors", b"x"), ("shard-00001",), WITH_WEIGHTS),
    Case("weights: of the encoder alone", encoder_alone, ("decoder.layers.0",), WITH_WEIGHTS),
    Case("weights: without the layer that writes", without_a_head, ("lm_head.weight",), RUNS),
    Case("weights: of a larger vocabulary by far", config(vocab_size=200_000), ("shared.weight", "200000"),
         WITH_WEIGHTS),
    Case("weights: of a model as large as may be", config(vocab_size=2_000_000, hidden_size=2000), ("shared.weight",),
         WITH_WEIGHTS),
]  # fmt: skip

INDEX = [
    Case("index: points outside", outside, ("outside.safetensors",), WITH_WEIGHTS),
    Case("index: points outside by an absolute path", outside_by_root, ("outside.safetensors",), WITH_WEIGHTS),
    Case("index: a file that is not there", sharded(shards_renamed(lambda file: "gone.safetensors")),
         ("gone.safetensors",), WITH_WEIGHTS),
    Case("index: no JSON", sharded(raw=b"{"), ("model.safetensors.index.json",), WITH_WEIGHTS),
    Case("index: a list", sharded(lambda index: [1]), ("model.safetensors.index.json",), WITH_WEIGHTS),
    Case("index: without weight_map", sharded(lambda index: {"metadata": {}}), ("weight_map",), WITH_WEIGHTS),
    Case("index: weight_map is a list", sharded(lambda index: index | {"weight_map": ["a"]}), ("weight_map",),
         WITH_WEIGHTS),
    Case("index: a number for a file", sharded(shards_renamed(lambda file: 5)), ("weight_map", "5"), WITH_WEIGHTS),
    Case("index: pickles", sharded(shards_renamed(lambda file: file.replace("safetensors", "bin"))), (".bin",),
         WITH_WEIGHTS),
    Case("index: without metadata", sharded(lambda index: {"weight_map": index["weight_map"]}), ("metadata",),
         WITH_WEIGHTS),
    Case("index: half of the files", sharded(shards_renamed(lambda file: "model-00001-of-00002.safetensors")),
         ("layers.",), WITH_WEIGHTS),
]  # fmt: skip

BESIDE = [
    Case("tokenizer: missing", without("tokenizer.json", "tokenizer_config.json"), ("tokenizer",), RUNS),
    Case("tokenizer: no JSON", content("tokenizer.json", b"{"), ("tokenizer",), RUNS),
    Case("tokenizer: a list", content("tokenizer.json", b"[1]"), ("tokenizer",), RUNS),
    Case("tokenizer: a model that there is not", tokenizer(lambda text: text | {"model": {"type": "Evil"}}),
         ("tokenizer",), RUNS),
    Case("tokenizer: of a larger vocabulary", tokenizer(lambda text: text | {
        "model": text["model"] | {"vocab": text["model"]["vocab"] | {"more": 5000}}}), ("5001",), RUNS),
    Case("tokenizer_config.json: no JSON", content("tokenizer_config.json", b"{"), ("tokenizer_config.json",), RUNS),
    Case("tokenizer_config.json: no padding", json_file("tokenizer_config.json", pad_token=None), ("pad_token",), RUNS),
    Case("tokenizer_config.json: the target's outside",
         json_file("tokenizer_config.json", target_tokenizer="../elsewhere"), ("target_tokenizer", "../elsewhere"),
         RUNS),
    Case("tokenizer_config.json: trees that there are not", json_file("tokenizer_config.json", syntax="chian"),
         ("syntax", "chian", "chain"), RUNS),
    Case("tokenizer_config.json: code of its own", json_file("tokenizer_config.json", tokenizer_class="EvilTokenizer",
         auto_map={"AutoTokenizer": ["evil.EvilTokenizer", "evil.EvilTokenizer"]}), ("trust_remote_code",), RUNS),
    Case("generation_config.json: a field misspelt", json_file("generation_config.json", num_beam=4),
         ("num_beam", "Did you mean num_beams?"), ("Translator", "evaluate")),
    Case("generation_config.json: no JSON", content("generation_config.json", b"{"), ("generation_config.json",),
         ("Translator", "evaluate")),
    *(
        Case(f"generation_config.json: {name} is {value!r}", json_file("generation_config.json", **{name: value}),
             (name,), ("Translator", "evaluate"))
        for name, value in (
            ("num_beams", 10**6), ("num_beams", "four"), ("num_beams", 0), ("max_new_tokens", -1),
            ("max_new_tokens", HUGE), ("max_new_tokens", "many"), ("eos_token_id", HUGE), ("pad_token_id", -1),
            ("decoder_start_token_id", HUGE), ("num_return_sequences", 10**6),
        )
    ),
    Case("settings.yaml: hostile", content("settings.yaml", b"dataset: !!python/object/apply:os.system [ls]"),
         ("settings.yaml", "tag"), ("evaluate",)),
    Case("settings.yaml: a wrong type", content("settings.yaml", b"dataset: x\nmax_source_length: [1]\n"),
         ("max_source_length",), ("evaluate",)),
    Case("settings.yaml: a metric that there is not", content("settings.yaml", b"metric: blue\n"), ("metric", "blue"),
         ("evaluate",)),
]  # fmt: skip


CASES = [*SIZES, *TYPES, *SWITCHES, *FILES, *WEIGHTS, *INDEX, *BESIDE]
