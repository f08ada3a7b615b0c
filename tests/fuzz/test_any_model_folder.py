"""Any model folder: what loads has every weight of its files; what is refused says so in a sentence about the folder.

A refusal is a ValueError or an OSError. Memory is bounded, because no size is believed before it is looked at.
"""

import contextlib
import json
import math
import resource
import shutil
import sys
import tempfile
import warnings
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, Phase, event, find, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSeq2SeqLM

from selfattn_hf import SelfAttnConfig, SelfAttnForConditionalGeneration

from ..end_to_end.conftest import LISTS, words_of
from ..model.conftest import plant_trees, tiny_model

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
READ = ["config.json", WEIGHTS, "generation_config.json"]
FILES = [*READ, "tokenizer.json", "tokenizer_config.json", INDEX]
LONGEST = 1500  # characters of a refusal
MOST_BYTES = 2**30  # beyond what the process has before it loads

FIELDS = {name: field for name, field in SelfAttnConfig.__dataclass_fields__.items() if name != "model_type"}
OTHERS = ["dtype", "num_labels", "id2label", "label2id", "architectures", "auto_map", "quantization_config", "exec",
          "attn_implementation", "problem_type", "transformers_version", "task_specific_params", "return_dict",
          "output_attentions", "torch_dtype", "name_or_path", "_name_or_path", "_attn_implementation", "model_type",
          "num_hidden_layers", "transformers_weights", "_commit_hash", "chunk_size_feed_forward"]  # fmt: skip
LEGAL = ["float16", "bfloat16", "sdpa", "eager", "flash_attention_2", "flex_attention", "SelfAttnModel", "regression"]
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 40), st.sampled_from(LEGAL), st.text(max_size=6),
    st.sampled_from([0.5, 1e-300, 1e300, math.nan, math.inf, 2**31, 10**12, 10**400, "x" * 5000, "\0", "../x"]),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)  # fmt: skip
NAMES = st.one_of(st.sampled_from(sorted(FIELDS)), st.sampled_from(OTHERS), st.text(max_size=8))


def values_of(name):
    """Values of a field, half of them legal."""
    legal = [*words_of(FIELDS[name].type), *LISTS.get(name, [])] if name in FIELDS else []
    return st.sampled_from(legal) | VALUES if legal else VALUES


def edit_json(name, changes, folder):
    """Fields set, or taken out where the value is `...`, in a JSON file."""
    path = folder / name
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({field: value for field, value in content.items() if value is not ...}))


def put_in(name, where, taken, piece, folder):
    """Bytes in the place of others, somewhere in a file: a share of it."""
    path = folder / name
    if path.is_file():
        raw = path.read_bytes()
        place = int(where * len(raw))
        path.write_bytes(raw[:place] + piece + raw[place + taken :])


def cut(name, share, folder):
    path = folder / name
    if path.is_file():
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def replace(name, by, folder):
    """A file that is another, a folder, a link to itself, or not there."""
    path = folder / name
    path.unlink(missing_ok=True)
    if by == "folder":
        path.mkdir()
    elif by == "loop":
        path.symlink_to(path.name)
    elif by in FILES and (folder / by).is_file():
        shutil.copy(folder / by, path)


def edit_header(which, changes, folder):
    """An entry of the weights' header changed: a tensor by its rank, or what stands beside the tensors."""
    path = folder / WEIGHTS
    raw = path.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    names = sorted(header)
    name = names[which % len(names)]
    entry = header.pop(name)
    if isinstance(changes, dict) and isinstance(entry, dict):
        header[name] = {part: value for part, value in (entry | changes).items() if value is not ...}
    elif isinstance(changes, str):
        header[changes] = entry
    elif isinstance(changes, int):  # under the name of another, and that one under this
        other = names[changes % len(names)]
        header[name], header[other] = header.get(other, entry), entry
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + size :])


def set_length(length, folder):
    """Another number of bytes of the header."""
    path = folder / WEIGHTS
    path.write_bytes(length.to_bytes(8, "little") + path.read_bytes()[8:])


def shard(changes, names, folder):
    """Weights in two files with an index, in which some fields and some names of files are others."""
    there = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    parts = sorted(there)
    weight_map = {name: f"model-{rank % 2 + 1:05}-of-00002.safetensors" for rank, name in enumerate(parts)}
    for file in set(weight_map.values()):
        save_file({name: there[name] for name in parts if weight_map[name] == file}, folder / file, {"format": "pt"})
    weight_map |= {parts[rank % len(parts)]: file for rank, file in names}
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map} | changes
    (folder / INDEX).write_text(json.dumps({name: value for name, value in index.items() if value is not ...}))


GONE = st.just(...)
CONFIG = NAMES.flatmap(lambda name: st.tuples(st.just(name), values_of(name) | GONE))
DTYPES = st.sampled_from(["F32", "F16", "BF16", "F64", "I32", "F8_E4M3", "BOOL", "f32", ""])
NUMBERS = st.integers(-1, 40) | st.sampled_from([2**31, 2**63, 2**64, 10**30])
ENTRY = st.fixed_dictionaries(
    {},
    optional={
        "dtype": DTYPES | VALUES | GONE, "shape": st.lists(NUMBERS, max_size=3) | VALUES | GONE, "format": VALUES,
        "data_offsets": st.lists(NUMBERS, max_size=3) | VALUES | GONE,
    },
)  # fmt: skip
TENSORS = st.sampled_from(["model.shared.weight", "lm_head.weight", "__metadata__", "shared.weight", "format"])
PIECES = st.binary(max_size=4) | st.sampled_from(
    [b"\xff\xfe", b"{", b"}", b'"', b"[" * 3000, b"\0" * 9, b'"hidden_size":5,']
)
DAMAGES = st.one_of(
    st.builds(lambda fields: partial(edit_json, "config.json", dict(fields)), st.lists(CONFIG, min_size=1, max_size=3)),
    st.builds(partial, st.just(edit_header), st.integers(0, 99), ENTRY | TENSORS | st.integers(0, 99) | st.none()),
    st.builds(partial, st.just(put_in), st.sampled_from(FILES), st.floats(0, 1), st.integers(0, 4), PIECES),
    st.builds(partial, st.just(put_in), st.just(WEIGHTS), st.floats(0, 0.3), st.integers(0, 4), PIECES),
    st.builds(partial, st.just(cut), st.sampled_from(FILES), st.just(0) | st.floats(0, 1)),
    st.builds(partial, st.just(replace), st.sampled_from(FILES), st.sampled_from(["folder", "loop", "", *FILES])),
    st.builds(partial, st.just(set_length), st.integers(0, 9000) | st.sampled_from([2**40, 2**63, 2**64 - 1])),
    st.builds(
        lambda name, value: partial(edit_json, "generation_config.json", {name: value}),
        st.sampled_from(["num_beams", "max_length", "eos_token_id", "pad_token_id", "do_sample", "transformers_version",
                         "decoder_start_token_id", "compile_config", "watermarking_config", "cache_implementation",
                         "max_new_tokens", "_from_model_config", "temperature", "constraints"]) | st.text(max_size=4),
        VALUES | GONE,
    ),
    st.builds(
        partial, st.just(shard),
        st.dictionaries(st.sampled_from(["metadata", "weight_map", "x"]), VALUES | GONE, max_size=1),
        st.lists(st.tuples(st.integers(0, 99), VALUES | st.sampled_from(["../" + WEIGHTS, "config.json"])), max_size=2),
    ),
)  # fmt: skip
EXAMPLES = settings(
    max_examples=10 * settings.default.max_examples,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
# A control needs one that is found, not the shortest.
FIRST = settings(EXAMPLES, phases=[Phase.generate], max_examples=500)
IDS = torch.tensor([[5, 6, 7, 2], [8, 9, 2, 0]])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder with a tiny model, and files beside it that no model reads; and what the model says."""
    folder = tmp_path_factory.mktemp("whole") / "model"
    model = tiny_model(torch.float32)
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_text("{}")
    return folder, logits_of(model)


@pytest.mark.parametrize("door", [SelfAttnForConditionalGeneration, AutoModelForSeq2SeqLM], ids=["class", "auto"])
@EXAMPLES
@given(damage=DAMAGES)
def test_a_folder_loads_as_it_is_or_is_refused_in_a_sentence(door, damage, whole):
    event(verdict_on(damage, door, whole))


def test_a_whole_folder_loads(whole):
    for door in (SelfAttnForConditionalGeneration, AutoModelForSeq2SeqLM):
        assert verdict_on(lambda folder: None, door, whole) == "loaded"


def test_weights_drawn_by_chance_would_be_found(whole, monkeypatch):
    monkeypatch.setattr("selfattn_hf.model.pretrained.check_fit", lambda *given: None)
    damage = find(DAMAGES, lambda damage: is_wrong(damage, whole), settings=FIRST)
    monkeypatch.undo()
    assert verdict_on(damage, SelfAttnForConditionalGeneration, whole) == "refused"


def test_an_error_of_another_type_would_be_found(whole, monkeypatch):
    def fail(*given):
        raise KeyError("config")

    monkeypatch.setattr("selfattn_hf.model.configuration_selfattn.check_common", fail)
    assert is_wrong(lambda folder: None, whole)


def is_wrong(damage, whole):
    try:
        verdict_on(damage, SelfAttnForConditionalGeneration, whole)
    except Exception:
        return True
    return False


def verdict_on(damage, door, whole):
    """Whether a damaged folder is loaded or refused; raises where it is neither as it should be."""
    before, logits = whole
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = shutil.copytree(before, Path(scratch, "model"))
        damage(folder)
        if door is AutoModelForSeq2SeqLM and not is_ours(folder):
            return "of nobody knows whom"
        try:
            with within_memory():
                model = door.from_pretrained(folder)
        except (ValueError, OSError) as error:
            assert_is_a_sentence(error, folder)
            return "refused"
        config = (folder / "config.json").read_bytes()
        same = all_as_in_the_files(model, folder) and config == (before / "config.json").read_bytes()
        said = logits_of(model)
        if same and all(torch.equal(a, b) for a, b in zip(files_of(folder), files_of(before), strict=True)):
            assert torch.equal(said, logits)
        return "loaded"


def is_ours(folder):
    """Whether the Auto classes can know whose folder it is."""
    try:
        return json.loads((folder / "config.json").read_text())["model_type"] == "selfattn"
    except (ValueError, OSError, TypeError, LookupError, RecursionError):
        return False


@contextlib.contextmanager
def within_memory():
    """Where memory can be limited, no more than some above what the process has."""
    if sys.platform != "linux":
        yield
        return
    limits = resource.getrlimit(resource.RLIMIT_AS)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + MOST_BYTES, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def assert_is_a_sentence(error, folder):
    message = str(error)
    assert not isinstance(error, UnicodeError | json.JSONDecodeError), repr(error)
    assert 20 < len(message) < LONGEST, message[: 2 * LONGEST]
    named = {str(folder), *FILES, *FIELDS, *OTHERS, "has no field", "belongs to decoding"}
    assert any(name in message for name in named), message


def tensors_of(folder):
    """What the files hold, by name without the prefix of the base model."""
    if (folder / WEIGHTS).is_file():
        there = load_file(folder / WEIGHTS)
    else:
        names = set(json.loads((folder / INDEX).read_text())["weight_map"].values())
        there = {name: tensor for file in names for name, tensor in load_file(folder / file).items()}
    return {name.removeprefix("model."): tensor for name, tensor in there.items()}


def files_of(folder):
    return [tensor for _, tensor in sorted(tensors_of(folder).items())]


def all_as_in_the_files(model, folder):
    """Every tensor of the files is in the model, and the model has no other, but one that is tied to it."""
    held = {name.removeprefix("model."): tensor for name, tensor in model.state_dict().items()}
    there = tensors_of(folder)
    for name, tensor in there.items():
        torch.testing.assert_close(held[name], tensor.to(held[name].dtype), rtol=0, atol=0, equal_nan=True)
    read = {held[name].data_ptr() for name in there}
    assert all(tensor.data_ptr() in read for tensor in held.values()), "weights were drawn by chance"
    return True


@torch.no_grad()
def logits_of(model):
    model = plant_trees(model).eval()
    return model(input_ids=IDS, attention_mask=IDS.ne(0), decoder_input_ids=IDS[:, :3], return_dict=True).logits
