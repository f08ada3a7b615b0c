"""The licence of the weights: names that the Hub could know, and cards that say one in head and text."""

import json

import pytest
from huggingface_hub import ModelCard

from selfattn_hf.sharing import card_of, check_licence, with_licence
from selfattn_hf.training import make_settings, read_settings, read_study
from selfattn_hf.training.run_folder import fingerprint
from selfattn_hf.training.yaml_files import dump_yaml, read_yaml

from .conftest import settings_of

NAME = "anna/backwards"
NOBODY = "nobody has said a licence here"


@pytest.mark.parametrize("name", ["mit", "apache-2.0", "cc-by-nc-sa-4.0", "openrail++", "0bsd", "other", "lgpl-lr"])
def test_names_of_the_hub_are_taken(name):
    check_licence(name)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("MIT", "Did you mean mit?"), ("Apache 2.0", "Did you mean apache-2.0?"), ("cc_by_4.0", "mean cc-by-4.0?"),
        ("mit\nevil: true", "repositories-licenses has them"), ("", "such as mit"), ("mit-", "such as mit"),
        ("https://example.org/licence", "repositories-licenses has them"), ("x" * 200 + "!", "x'. "),
    ],
)  # fmt: skip
def test_what_cannot_be_one_is_refused_with_what_was_meant(name, hint, data, tmp_path):
    with pytest.raises(ValueError, match="license is an identifier of the Hub") as refused:
        check_licence(name)
    assert hint in str(refused.value) and len(str(refused.value)) < 400
    with pytest.raises(ValueError, match="license is an identifier of the Hub"):
        make_settings(settings_of(tmp_path, data, license=name))


def test_a_run_says_it_on_the_card_and_without_one_the_card_says_that(model):
    settings = read_yaml(model / "settings.yaml")
    assert settings["license"] is None
    plain, licensed = card_of(model, settings), card_of(model, {**settings, "license": "mit"})
    assert ModelCard(plain).data.license is None and NOBODY in plain
    assert ModelCard(licensed).data.license == "mit" and NOBODY not in licensed
    assert "The weights have the licence `mit`" in licensed and "selfattn_hf, Apache-2.0." in licensed
    ModelCard(licensed).data.to_dict()
    assert with_licence(plain, "mit").split("---\n")[2] == licensed.split("---\n")[2]
    assert ModelCard(with_licence(plain, "mit")).data.to_dict() == ModelCard(licensed).data.to_dict()


def test_another_licence_takes_the_place_of_the_first_and_the_rest_of_the_card_stays(model):
    card = (model / "README.md").read_text().replace("## Limits", "My own words.\n\n## Limits")
    first = with_licence(card, "mit")
    second = with_licence(first, "apache-2.0")
    assert "`mit`" not in second and "The weights have the licence `apache-2.0`" in second
    assert second.count("license:") == 1 and "My own words." in second
    assert second.replace("apache-2.0", "mit") == first.replace("apache-2.0", "mit")
    assert with_licence(second, "apache-2.0") == second
    assert "none of [the Hub's list]" in with_licence(second, "other")


@pytest.mark.parametrize("card", ["# no head\n", "# a line\n---\nmore\n"])
def test_a_card_without_a_head_is_given_one(card):
    made = with_licence(card, "mit")
    assert ModelCard(made).data.license == "mit" and made.endswith(card)


@pytest.mark.parametrize("head", ["license:\n- mit\n- apache-2.0", "license: >-\n  mit\n  x", "tags: ["])
def test_a_head_that_is_not_understood_is_left_alone(head):
    with pytest.raises(
        ValueError, match=r"the card('s head says its licence in a way| has a head that cannot be read)"
    ):
        with_licence(f"---\n{head}\n---\n# x\n", "bsd")


def test_null_in_the_head_is_no_licence():
    made = with_licence("---\nlicense: null\ntags:\n- a\n---\n# x\n", "mit")
    assert made.startswith("---\nlicense: mit\ntags:\n- a\n---\n# x")


def test_a_run_may_be_given_a_licence_later_and_a_study_none(data, tmp_path):
    plain, licensed = (make_settings(settings_of(tmp_path, data, license=name)) for name in (None, "mit"))
    assert fingerprint(plain) == fingerprint(licensed)
    assert "license: mit" in licensed.to_yaml()
    (tmp_path / "run.yaml").write_text(dump_yaml(settings_of(tmp_path, data, license="mit")))
    assert read_settings(tmp_path / "run.yaml").run.license == "mit"
    base = settings_of(tmp_path, data, license="mit")
    del base["output_dir"]
    (tmp_path / "study.yaml").write_text(json.dumps({"base": base, "vary": {"norm": ["pre", "post"]}}))
    with pytest.raises(ValueError, match="license is said where a model is published"):
        read_study(tmp_path / "study.yaml")


def test_the_script_says_it_on_the_card_and_pushes_that(online, believed, model, in_process):
    code, said, errors = in_process("push_to_hub", model, NAME, "--license", "mit")
    assert code == 0, errors
    assert "README.md says the licence mit now" in said
    head = ModelCard(online.tree(NAME)["README.md"].decode()).data
    assert head.license == "mit" and head.eval_results
    assert ModelCard.load(model / "README.md").data.license == "mit"
    commits = len(online.repos["model", NAME].commits)
    code, said, _ = in_process("push_to_hub", model, NAME, "--license", "MIT")
    assert code == 2 and "says the licence" not in said and len(online.repos["model", NAME].commits) == commits


def test_a_file_of_a_folder_that_is_no_model_is_not_touched(in_process, tmp_path):
    (tmp_path / "README.md").write_text("# mine\n")
    assert in_process("push_to_hub", tmp_path, NAME, "--license", "mit")[0] == 2
    assert (tmp_path / "README.md").read_text() == "# mine\n"
