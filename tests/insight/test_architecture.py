"""The picture of a config holds what the config has, nothing else, and nothing on top of something else."""

import itertools
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from selfattn_hf import SelfAttnConfig
from selfattn_hf.insight.architecture import changes, draw_architecture, draw_changes, lay_out
from selfattn_hf.insight.architecture_glyphs import seen_by
from selfattn_hf.insight.drawing import Box, Line, texts_of
from selfattn_hf.training import read_settings

ROOT = Path(__file__).resolve().parents[2]
LECTURE = sorted((ROOT / "configs" / "lecture").glob("*.yaml"))
SVG = "{http://www.w3.org/2000/svg}"
SIZES = {"vocab_size": 50, "hidden_size": 16, "encoder_layers": 3, "decoder_layers": 2, "num_attention_heads": 4,
         "intermediate_size": 24}  # fmt: skip
MIXED = ["rnn", "self_attention", "self_attention"]
VARIANTS = {
    "default": {},
    "no_feedforward": {"feedforward": "none"},
    "gated": {"feedforward": "swiglu"},
    "post": {"norm": "post"},
    "no_norm": {"norm": "none"},
    "rms": {"norm_type": "rms_norm", "embedding_norm": True},
    "bare": {"norm": "none", "residual": False, "feedforward": "none", "position_encoding": "none"},
    "shared": {"share_layers": True, "norm": "post"},
    "shared_bare": {"share_layers": True, "norm": "none", "residual": False},
    "block": {"position_injection": "block", "position_encoding": ["sinusoidal", "learned"]},
    "concat": {"position_combine": "concat"},
    "block_concat": {"position_combine": "concat", "position_injection": "block"},
    "three": {"position_encoding": ["learned", "rope", "t5", "alibi"]},
    "inputs": {"attend_to": "embeddings", "position_encoding": "t5"},
    "untied": {"tie_word_embeddings": False, "output_bias": True},
    "no_mask": {"future_mask": False},
    "mixed": {"encoder_mixer": MIXED, "decoder_mixer": ["window", "local_attention"], "window_radius": 1},
    "mixed_ways": {"encoder_mixer": MIXED, "position_encoding": ["alibi", "shaw"], "decoder_mixer": "self_attention"},
    "mixed_block": {"encoder_mixer": MIXED, "position_injection": "block", "attend_to": "embeddings"},
    "deep": {"encoder_mixer": ["rnn", "self_attention"] * 6, "encoder_layers": 12, "decoder_layers": 12},
    "additive": {"attention_score": "additive", "decoder_mixer": "rnn", "decoder_position_encoding": "none"},
    "bare_model": {"architectures": ["SelfAttnModel"]},
    "encoder": {"architectures": ["SelfAttnEncoderModel"]},
    "labels": {"architectures": ["SelfAttnForSequenceClassification"]},
    "answers": {"architectures": ["SelfAttnForQuestionAnswering"]},
}


def config_of(**switches):
    return SelfAttnConfig(**SIZES | switches)


def lecture_config(path):
    return SelfAttnConfig(**read_settings(path).model, vocab_size=480)


def overlap(one, other):
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def within(inner, outer):
    return outer[0] <= inner[0] and outer[1] <= inner[1] and inner[2] <= outer[2] and inner[3] <= outer[3]


def faults(drawing):
    """What is wrong with a layout: boxes or texts on top of each other, lines through boxes, texts that do not fit."""
    found = []
    boxes = [box for box in drawing.boxes if box.shape != "frame"]
    frames = [box for box in drawing.boxes if box.shape == "frame"]
    for one, other in [*itertools.combinations(boxes, 2), *itertools.combinations(frames, 2)]:
        if overlap(one.bounds, other.bounds):
            found.append(f"{one.key} lies on {other.key}")
    for box, frame in itertools.product(boxes, frames):
        if overlap(box.bounds, frame.bounds) and not within(box.bounds, frame.bounds):
            found.append(f"{box.key} sticks out of {frame.key}")
    for box in drawing.boxes:
        for text in texts_of(box):
            found += [] if within(text.bounds, box.bounds) else [f"{text.text} does not fit into {box.key}"]
    for one, other in itertools.combinations(drawing.texts, 2):
        found += [f"{one.text} lies on {other.text}"] if overlap(one.bounds, other.bounds) else []
    for text, box in itertools.product(drawing.texts, boxes):
        if overlap(text.bounds, box.bounds) and not within(text.bounds, box.bounds):
            found.append(f"{text.text} lies on {box.key}")
    for line in drawing.lines:
        for start, end in itertools.pairwise(line.points):
            assert start[0] == end[0] or start[1] == end[1], "a line goes upright or level"
            way = (min(start[0], end[0]), min(start[1], end[1]), max(start[0], end[0]), max(start[1], end[1]))
            found += [f"{line.key} runs through {text.text}" for text in drawing.texts if overlap(way, text.bounds)]
            for box in boxes:
                left, top, right, bottom = box.bounds
                if overlap(way, (left + 1, top + 1, right - 1, bottom - 1)):
                    found.append(f"{line.key} runs through {box.key}")
    keys = [box.key for box in drawing.boxes]
    return found + [f"{key} twice" for key in set(keys) if keys.count(key) > 1]


def check(config):
    drawing = lay_out(config)
    assert not faults(drawing)
    svg = ET.fromstring(draw_architecture(config))
    left, top, width, height = map(float, svg.get("viewBox").split())
    for item in (*drawing.boxes, *drawing.lines, *drawing.texts):
        assert within(item.bounds, (left, top, left + width, top + height)), item
    assert svg.tag == f"{SVG}svg"
    assert svg.get("role") == "img"
    named = {child.get("id"): child.text for child in svg if child.get("id")}
    title, description = (named[name] for name in svg.get("aria-labelledby").split())
    assert title.startswith("Architecture: ")
    assert len(description) > 80
    return drawing


@pytest.mark.parametrize("path", LECTURE, ids=lambda path: path.stem)
def test_a_config_of_the_lecture_is_drawn_well_formed_and_nothing_lies_on_anything(path):
    check(lecture_config(path))


@pytest.mark.parametrize("name", VARIANTS)
def test_a_picture_has_no_faults(name):
    check(config_of(**VARIANTS[name]))


@pytest.mark.parametrize("norm", ["pre", "post", "none"])
def test_every_mixer_is_drawn_with_every_norm(mixer, norm):
    drawing = check(config_of(encoder_mixer=mixer, decoder_mixer=mixer, position_encoding="none", norm=norm))
    inside = {box.inside for box in drawing.boxes if box.key.endswith(".mix")}
    assert len(inside) == 2, "a decoder's mixer, which sees no later word, is another picture than an encoder's"


def test_every_encoding_is_drawn_on_its_sides(position, with_order):
    config = config_of(**with_order(position))
    drawn = [box for box in check(config).boxes if ".position." in box.key]
    sides = [box.key.split(".")[0] for box in drawn]
    assert sides == [side for side in ("encoder", "decoder") for _ in config.positions_of(side)]


def test_a_decoder_alone_is_drawn_alone():
    drawing = check(config_of().decoder_alone())
    assert {box.key.split(".")[0] for box in drawing.boxes} == {"decoder"}
    assert not any(box.key.endswith(".read") for box in drawing.boxes)


def keys_of(**switches):
    drawing = lay_out(config_of(**switches))
    return [box.key for box in drawing.boxes] + [line.key for line in drawing.lines]


@pytest.mark.parametrize(
    ("off", "on", "part"),
    [
        ({"feedforward": "none"}, {}, ".think"),
        ({"norm": "none"}, {}, ".norm"),
        ({"norm": "none"}, {"norm": "post"}, ".norm"),
        ({"residual": False}, {}, ".around"),
        ({"position_encoding": "none"}, {}, ".position."),
        ({"position_encoding": "none"}, {"position_encoding": "t5"}, ".position."),
        ({"position_encoding": "rope"}, {}, "input.sinusoidal.add"),
        ({}, {"position_injection": "block"}, "layer0.mix.sinusoidal.add"),
        ({}, {"position_combine": "concat"}, ".join"),
        ({}, {"share_layers": True}, ".loop"),
        ({}, {"embedding_norm": True}, "embedding_norm"),
        ({}, {"attend_to": "embeddings"}, ".inputs"),
        ({"tie_word_embeddings": False}, {}, "tie"),
        ({"architectures": ["SelfAttnEncoderModel"]}, {}, ".read"),
        ({"architectures": ["SelfAttnModel"]}, {}, ".head"),
        ({}, {"encoder_mixer": MIXED}, "encoder.layer1.mix"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_is_switched_off_is_absent(off, on, part):
    assert not any(part in key for key in keys_of(**off))
    assert any(part in key for key in keys_of(**on))


def test_each_part_has_its_own_norm_sum_and_way_around():
    keys = keys_of()
    for part in ("encoder.layer0.mix", "encoder.layer0.think", "decoder.layer0.mix", "decoder.layer0.read"):
        assert {part, f"{part}.norm", f"{part}.add"} <= set(keys)
    assert keys.count("layer0.mix.around") == keys.count("layer0.think.around") == 2
    drawing = lay_out(config_of(norm="post"))
    plus, norm, mix = (drawing.box(f"encoder.layer0.mix{end}") for end in (".add", ".norm", ""))
    assert norm.top < plus.top < mix.top, "post: the norm stands above the sum"
    drawing = lay_out(config_of())
    plus, norm, mix = (drawing.box(f"encoder.layer0.mix{end}") for end in (".add", ".norm", ""))
    assert plus.top < mix.top < norm.top, "pre: the norm stands below the part"


def test_a_frame_says_how_many_layers_it_stands_for():
    said = {box.key: (box.title, box.note) for box in lay_out(config_of(encoder_mixer=MIXED)).boxes}
    assert said["encoder.layer0"] == ("× 1", "layer 1")
    assert said["encoder.layer1"] == ("× 2", "layers 2–3")
    assert said["decoder.layer0"] == ("× 2", "layers 1–2")


def test_who_sees_whom_is_what_the_mixer_does():
    assert seen_by("window", 2, 1, causal=False) == [1, 2, 3]
    assert seen_by("local_attention", 3, 2, causal=True) == [1, 2, 3]
    assert seen_by("self_attention", 1, 1, causal=True) == [0, 1]
    assert seen_by("dense", 0, 1, causal=False) == [0, 1, 2, 3, 4]


def test_the_mask_is_seen():
    masked, open_ = (lay_out(config_of(future_mask=mask)).box("decoder.layer0.mix") for mask in (True, False))
    assert "−∞" in masked.inside
    assert "future masked" in masked.note
    assert "--arch-warn" in open_.inside
    assert "sees the future" in open_.note


def test_a_fault_would_be_found():
    drawing = lay_out(config_of())
    box = drawing.box("encoder.layer0.mix")
    for planted in (
        Box("x", box.left + 5, box.top + 5, 20, 20, "norm"),
        Box("encoder.embed", -500, -20, 60, 20, "norm"),
        Line(((box.left - 30, box.top + 20), (box.left + 60, box.top + 20)), key="x"),
    ):
        other = lay_out(config_of())
        (other.lines if isinstance(planted, Line) else other.boxes).append(planted)
        assert faults(other), planted


# A value of every field that the picture or its words know, beside what it needs.
OTHER = {
    "vocab_size": {"vocab_size": 60}, "hidden_size": {"hidden_size": 32}, "encoder_layers": {"encoder_layers": 1},
    "decoder_layers": {"decoder_layers": 3}, "num_attention_heads": {"num_attention_heads": 2},
    "head_dim": {"head_dim": 8}, "intermediate_size": {"intermediate_size": 32}, "bias": {"bias": False},
    "tie_word_embeddings": {"tie_word_embeddings": False}, "scale_embedding": {"scale_embedding": False},
    "embedding_norm": {"embedding_norm": True}, "output_bias": {"output_bias": True},
    "encoder_mixer": {"encoder_mixer": MIXED}, "decoder_mixer": {"decoder_mixer": "dense"},
    "attention_score": {"attention_score": "dot"}, "attend_to": {"attend_to": "embeddings"},
    "share_layers": {"share_layers": True}, "position_encoding": {"position_encoding": "rope"},
    "encoder_position_encoding": {"encoder_position_encoding": "tree_path"},
    "decoder_position_encoding": {"decoder_position_encoding": "none"},
    "position_combine": {"position_combine": "concat"},
    "position_injection": {"position_injection": "block"}, "sinusoid_layout": {"sinusoid_layout": "halves"},
    "feedforward": {"feedforward": "none"}, "norm": {"norm": "post"}, "norm_type": {"norm_type": "rms_norm"},
    "norm_eps": {"norm_eps": 1e-3}, "residual": {"residual": False}, "future_mask": {"future_mask": False},
}  # fmt: skip


@pytest.mark.parametrize("field", OTHER)
def test_a_change_of_a_field_is_said(field):
    said = changes(config_of(), config_of(**OTHER[field]))
    assert said
    assert all(" (was: " in sentence for sentence in said)
    back = changes(config_of(**OTHER[field]), config_of())
    assert len(back) == len(said)
    ET.fromstring(draw_changes(config_of(), config_of(**OTHER[field])))


def test_nothing_is_said_where_nothing_of_the_architecture_changed():
    assert changes(config_of(), config_of()) == []
    assert changes(config_of(), config_of(dropout=0.3, eos_token_id=5, position_shift=3)) == []
    assert "≠</text>" not in draw_changes(config_of(), config_of())


@pytest.mark.parametrize(("before", "after"), list(itertools.pairwise(LECTURE)), ids=lambda path: path.stem)
def test_a_step_of_the_lecture_is_said_and_marked(before, after):
    old, new = lecture_config(before), lecture_config(after)
    assert 1 <= len(changes(old, new)) <= 3
    picture = draw_changes(old, new)
    svg = ET.fromstring(picture)
    signs = [group.find(f"{SVG}text").text for group in svg.iter(f"{SVG}g") if group.find(f"{SVG}title") is not None]
    assert signs, "what changed has a sign, not a colour alone"
    assert set(signs) <= {"+", "≠"}
    for sentence in changes(old, new):
        assert sentence.split(":")[0] in "".join(svg.itertext())


def test_what_is_new_and_what_is_other_have_different_signs():
    def signs(old, new):
        svg = ET.fromstring(draw_changes(config_of(**old), config_of(**new)))
        marks = [group.find(f"{SVG}title") for group in svg.iter(f"{SVG}g")]
        return [mark.text for mark in marks if mark is not None]

    assert set(signs({"feedforward": "none"}, {})) == {"new"}
    assert set(signs({"feedforward": "gelu"}, {})) == {"changed"}
    assert signs({}, {"feedforward": "none"}) == []


def test_a_picture_asks_for_nothing_outside_of_itself_and_has_no_fixed_ink():
    picture = draw_architecture(config_of(position_encoding=["sinusoidal", "t5"]))
    assert picture.count("http") == picture.count('xmlns="http://www.w3.org/2000/svg"') == 1
    assert "url(" not in picture
    assert "currentColor" in picture
    assert draw_architecture(config_of(norm="post")) != picture


def test_two_pictures_on_one_page_share_no_ids():
    ids = [
        child.get("id")
        for config in (config_of(), config_of(norm="post"))
        for child in ET.fromstring(draw_architecture(config))
        if child.get("id")
    ]
    assert len(ids) == len(set(ids)) == 4
