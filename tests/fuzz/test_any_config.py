"""Any config: what is accepted trains a step, generates, is saved and loads; what is refused says why in a sentence."""

import math
import re

import torch
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from transformers import AutoModelForSeq2SeqLM

from selfattn_hf import SelfAttnConfig, SelfAttnForConditionalGeneration

from ..end_to_end.conftest import LISTS, NO_SWITCH, words_of
from ..model.conftest import TINY, plant_trees

NUMBERS = st.one_of(st.integers(-2, 40), st.sampled_from([0.0, 0.5, 1.0, -1.0, 1e-6, 1e30, math.inf, math.nan, 2**40]))
SIZES = {
    "hidden_size": st.integers(0, 33),
    "num_attention_heads": st.integers(0, 9),
    "encoder_layers": st.integers(0, 3),
    "decoder_layers": st.integers(0, 3),
    "intermediate_size": st.integers(0, 20),
}
TOKEN_IDS = {"pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"}


def values_of(name):
    """Values of a field, most of them legal."""
    words = words_of(SelfAttnConfig.__dataclass_fields__[name].type)
    legal = [*words, *LISTS.get(name, [])]
    return st.sampled_from(legal) if legal else NUMBERS


SWITCHES = {
    name: values_of(name)
    for name in SelfAttnConfig.__annotations__
    if name not in {*NO_SWITCH, "model_type"} | SIZES.keys() and name in SelfAttnConfig.__dataclass_fields__
}
CONFIGS = st.one_of(
    st.fixed_dictionaries({}, optional=SWITCHES),
    st.lists(st.sampled_from(sorted(SWITCHES)), max_size=4, unique=True).flatmap(
        lambda names: st.fixed_dictionaries({name: SWITCHES[name] for name in names})
    ),
    st.fixed_dictionaries({}, optional=SIZES),
)


@settings(
    max_examples=20 * settings.default.max_examples,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(switches=CONFIGS, seed=st.integers(0, 2**16))
def test_a_config_is_refused_in_a_sentence_or_works_to_the_end(switches, seed, tmp_path):
    try:
        config = SelfAttnConfig(**TINY | switches)
    except ValueError as error:
        event("refused")
        assert_is_a_sentence(str(error), switches)
        return
    event("accepted")
    torch.manual_seed(seed)
    model = plant_trees(SelfAttnForConditionalGeneration(config))
    ids = torch.randint(3, config.vocab_size, (2, 6))
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1]])
    batch = {"input_ids": ids, "attention_mask": mask, "labels": ids[:, :4]}

    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    loss = model(**batch).loss
    loss.backward()
    optimizer.step()
    if config.norm == "none" and (config.initializer_range or 0) >= 0.5:
        event("drawn too wide")  # nothing keeps such a model's numbers from growing out of float32
        return
    assert loss.isfinite()
    assert all(weight.isfinite().all() for weight in model.parameters())

    model.eval()
    plain = model.generate(ids, attention_mask=mask, max_new_tokens=4, use_cache=False)
    if config.future_mask:
        assert torch.equal(model.generate(ids, attention_mask=mask, max_new_tokens=4), plain)
    model.save_pretrained(tmp_path)
    again = plant_trees(AutoModelForSeq2SeqLM.from_pretrained(tmp_path))
    with torch.no_grad():
        found, wanted = again(**batch).logits, model(**batch).logits
    assert all(torch.equal(weight, model.state_dict()[name]) for name, weight in again.state_dict().items())
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)  # weights lie elsewhere in memory, and round so


def assert_is_a_sentence(message, switches):
    """It names a field that was given, the rule and what was given, on one line of bearable length."""
    assert "\n" not in message and 20 < len(message) < 600, message
    assert message.endswith("."), message
    named = set(re.findall(r"[a-z][a-z0-9_]+", message))
    bare = {name.removeprefix("encoder_").removeprefix("decoder_") for name in switches}
    about = {*switches, *(f"{side}{name}" for name in bare for side in ("", "encoder_", "decoder_"))}
    assert named & {*about, *TOKEN_IDS}, f"{message!r} names none of {sorted(switches)}"
