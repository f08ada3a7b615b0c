"""Settings of a run: one flat list of names, from a YAML file and the command line.

Three groups share the list: the fields of `SelfAttnConfig`, the data settings, and the settings below together with
the fields of `Seq2SeqTrainingArguments`. The command line beats the file, the file beats the default.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from selfattn_hf import SelfAttnConfig
from selfattn_hf.data import DataSettings
from selfattn_hf.sharing.destination import Destination
from selfattn_hf.sharing.licence import check_licence

from .arguments import ARGUMENT_TYPES, NOT_TAKEN, complete, default_output_dir, make_arguments
from .fields import check_value, near_name, read_typed
from .starting import check_start
from .streams import check_stream
from .yaml_files import dump_yaml, one_line, read_yaml, shown

Metric = Literal["bleu", "chrf", "exact_match", "token_accuracy"]

# Fields of the config that the tokenizer or the class itself decides, so that no run sets them.
DECIDED_ELSEWHERE = frozenset({
    "vocab_size", "pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id", "is_encoder_decoder",
    "selfattn_version",
})  # fmt: skip
# Where a run is pushed to; not a part of what is learned.
HUB = ("push_to_hub", "hub_model_id", "hub_private_repo", "hub_revision")
# Beside `batch_tokens` they are refused.
_IN_PLACE_OF_TOKENS = ("per_device_train_batch_size", "train_sampling_strategy")
MODEL_TYPES: dict[str, Any] = {
    name: annotation for name, annotation in SelfAttnConfig.__annotations__.items() if name not in DECIDED_ELSEWHERE
}


@dataclass(kw_only=True)
class RunSettings:
    """What a run does beyond the model, the data and transformers' training arguments."""

    metric: Metric = "bleu"
    """What tells the best model; `exact_match` is sequence accuracy. All are reported, in percent."""
    num_beams: int = 1
    """Beams of the final evaluation and of the saved model; while training it is `generation_num_beams`."""
    max_new_tokens: int | None = None
    """Longest output in tokens; null: one and a half times the longest target of the training rows."""
    length_penalty: float = 1.0
    """Above 1 favours long outputs, below 1 short ones; for more than one beam."""
    init_from: str | None = None
    """A folder or Hub id of a trained model to start from, with its tokenizer; null: fresh weights."""
    init_from_revision: str | None = None
    """Commit, tag or branch of a model on the Hub to start from."""
    batch_tokens: int | None = None
    """Rows of a batch x (longest source + longest target) stay within it, instead of a fixed number of rows."""
    early_stopping: int | None = None
    """Stop after so many evaluations in a row without a better `metric`; null: never."""
    average_checkpoints: int = 0
    """Average the weights of the last so many checkpoints, and keep the average where it is better; 0: no."""
    resume: bool = True
    """Go on where the output folder holds this very run, from its newest whole checkpoint; false: refuse the folder."""
    examples: int = 5
    """Inputs shown with their outputs at the end."""
    license: str | None = None
    """Licence of the weights, for the model card: an identifier of the Hub, such as mit; null: the card says none."""
    push_to_hub: bool = False
    """Push the folder to the Hub when the run ends; name and token are checked before it begins."""
    hub_model_id: str | None = None
    """For `push_to_hub`: where to, as owner/name. The token is that of `hf auth login`, or HF_TOKEN."""
    hub_private_repo: bool = False
    """For `push_to_hub`: to a private repository."""
    hub_revision: str | None = None
    """For `push_to_hub`: branch to commit to; null: main."""

    def __post_init__(self) -> None:
        for name, least in (("num_beams", 1), ("examples", 0), ("average_checkpoints", 0)):
            _require(getattr(self, name) >= least, f"{name} starts at {least}, got {getattr(self, name)}")
        for name in ("max_new_tokens", "batch_tokens", "early_stopping"):
            given = getattr(self, name)
            _require(given is None or given >= 1, f"{name} starts at 1, or is null, got {given}")
        _require(self.average_checkpoints != 1, "average_checkpoints takes 0 or a number from 2 on, got 1")
        _require(
            self.length_penalty == RunSettings.length_penalty or self.num_beams > 1,
            f"length_penalty={self.length_penalty} does nothing with one beam. Set num_beams, or leave it out",
        )
        if self.license is not None:
            check_licence(self.license)
        check_start(self.init_from, self.init_from_revision)
        self._check_hub()

    def _check_hub(self) -> None:
        for name in HUB[1:]:
            given = getattr(self, name)
            _require(
                self.push_to_hub or given in (None, False),
                f"{name}={given} does nothing without push_to_hub. Set push_to_hub to true, or leave it out",
            )
        _require(
            not self.push_to_hub or self.hub_model_id is not None,
            "push_to_hub needs hub_model_id: where to, as owner/name",
        )
        if self.hub_model_id is not None:
            Destination(self.hub_model_id, self.hub_private_repo, self.hub_revision)


RUN_TYPES: dict[str, Any] = get_type_hints(RunSettings)
DATA_TYPES: dict[str, Any] = get_type_hints(DataSettings)


@dataclass(frozen=True)
class Settings:
    """All settings of a run, checked.

    Attributes:
        model: fields of `SelfAttnConfig` that were given.
        data: the data settings.
        run: the settings of this file.
        training: fields of `Seq2SeqTrainingArguments` that were given, and `output_dir`.
    """

    model: dict[str, Any]
    data: DataSettings
    run: RunSettings
    training: dict[str, Any]

    @property
    def output_dir(self) -> Path:
        """The folder that the run leaves behind."""
        return Path(self.training["output_dir"])

    def complete_training(self, *, has_validation: bool = True) -> dict[str, Any]:
        """The training arguments given, with our defaults for the rest; see `arguments.complete`."""
        average = self.run.average_checkpoints
        return complete(self.training, has_validation=has_validation, average_checkpoints=average)

    def resolved(self, training: Mapping[str, Any] | None = None) -> dict[str, dict[str, Any]]:
        """Every value by group, defaults included; `training` instead of the fields that were given."""
        config = SelfAttnConfig(**self.model)
        model = {name: getattr(config, name) for name in MODEL_TYPES} if self.run.init_from is None else self.model
        return {
            "model": dict(model),
            "data": dataclasses.asdict(self.data),
            "run": dataclasses.asdict(self.run),
            "training": dict(self.complete_training() if training is None else training),
        }

    def portable(self, training: Mapping[str, Any] | None = None) -> dict[str, dict[str, Any]]:
        """As `resolved`, without `resume`, the Hub, and what depends on the machine."""
        groups = self.resolved(training)
        for name in ("resume", *HUB):  # who runs these settings again does not push where we did
            groups["run"].pop(name)
        for name in ("disable_tqdm", "dataloader_pin_memory", "use_cpu"):
            if name not in self.training:
                groups["training"].pop(name, None)
        return groups

    def flat(self, training: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """What is in the settings file, by name."""
        return {name: value for group in self._again(training).values() for name, value in group.items()}

    def _again(self, training: Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
        """What is portable, without what would be refused beside it."""
        groups = self.portable(training)
        if self.run.batch_tokens is not None:
            for name in _IN_PLACE_OF_TOKENS:
                groups["training"].pop(name, None)
        return groups

    def to_yaml(self, training: Mapping[str, Any] | None = None) -> str:
        """What is portable as a settings file that runs again."""
        groups = self._again(training)
        texts = [f"# {title}\n{dump_yaml(values)}" for title, values in groups.items() if values]
        return "\n".join(texts)


def read_settings(path: str | Path | None, overrides: Mapping[str, str | bool] | None = None) -> Settings:
    """Settings from a YAML file and from words of the command line.

    Args:
        path: the YAML file; None: everything comes from `overrides`.
        overrides: name -> word as it was typed; True for a name without a word.

    Raises:
        ValueError: naming the setting, the rule, what was given and what to do: for an unknown name, a wrong type, an
            illegal value or pair. Nothing has been written then.
    """
    values: dict[str, Any] = {}
    for name, value in (read_yaml(path) if path is not None else {}).items():
        try:
            values[name] = check_value(name, value, annotation_of(name))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    for name, word in (overrides or {}).items():
        values[name] = read_typed(name, word, annotation_of(name))
    values.setdefault("output_dir", None)
    if values["output_dir"] is None:
        if path is None:
            raise ValueError("output_dir is needed: the folder that the run leaves behind.")
        values["output_dir"] = default_output_dir(path)
    try:
        return make_settings(values)
    except ValueError as error:
        if path is None or overrides:  # what does not fit together need not stand in the file
            raise
        raise ValueError(f"{path}: {one_line(str(error))}") from error


def make_settings(values: Mapping[str, Any]) -> Settings:
    """Settings from values by name, checked together.

    Raises:
        ValueError: as `read_settings`.
    """
    groups: dict[str, dict[str, Any]] = {"model": {}, "data": {}, "run": {}, "training": {}}
    for name, value in values.items():
        group = next(group for group, types in _GROUPS.items() if name in types)
        groups[group][name] = value
    missing = [
        field.name for field in dataclasses.fields(DataSettings) if _is_required(field) and field.name not in values
    ]
    _require(not missing, f"{', '.join(missing)} must be set: there is no default. See --help")
    settings = Settings(
        groups["model"], DataSettings(**groups["data"]), RunSettings(**groups["run"]), groups["training"]
    )
    _check_together(settings)
    return settings


def _check_together(settings: Settings) -> None:
    """Build what can be built without data, so that it is refused before any is read."""
    config = build_config(settings.model)
    run, data = settings.run, settings.data
    fields = settings.complete_training()
    make_arguments(fields, run.metric, config.use_cache)
    separate = not data.tokenizer_shared
    _require(
        run.init_from is not None or not separate or not config.tie_word_embeddings,
        "tokenizer_shared=false makes two vocabularies, and tie_word_embeddings=true one table for both. Set "
        "tie_word_embeddings to false, or tokenizer_shared to true",
    )
    for side, name in (("encoder", "max_source_length"), ("decoder", "max_target_length")):
        longest, places = getattr(data, name), config.known_places(side)
        asked = longest is not None and longest != DataSettings.__dataclass_fields__[name].default
        _require(
            run.init_from is not None or places is None or not asked or longest <= places,
            f"{name}={longest} is more than the {places} places that the {side} knows. Raise max_position_embeddings, "
            "or lower it",
        )
    if run.init_from is None:  # else the saved config decides, once it is loaded
        check_trees(config, data.syntax)
    _require(
        run.batch_tokens is None or "per_device_train_batch_size" not in settings.training,
        "batch_tokens and per_device_train_batch_size both say how large a batch is. Give one of them",
    )
    _require(
        run.batch_tokens is None or "train_sampling_strategy" not in settings.training,
        "batch_tokens groups rows by length itself, and train_sampling_strategy would do nothing. Give one of them",
    )
    _require(
        run.batch_tokens is None or not settings.training.get("dataloader_drop_last"),
        "batch_tokens makes batches of every row, and dataloader_drop_last would do nothing. Leave it out",
    )
    if data.streaming:
        check_stream(data, run.batch_tokens, settings.training, fields)
    _require(
        run.early_stopping is None or fields["eval_strategy"] != "no",
        "early_stopping counts evaluations, and eval_strategy is 'no'. Set eval_strategy to steps or epoch",
    )
    _require(
        run.metric == "token_accuracy" or fields["predict_with_generate"] or fields["eval_strategy"] == "no",
        f"metric={run.metric} needs outputs to compare, and predict_with_generate is false. Set metric to "
        "token_accuracy",
    )
    _require(
        fields["save_strategy"] != "no" or not run.average_checkpoints,
        "average_checkpoints needs checkpoints, and save_strategy is 'no'. Set save_strategy to steps or epoch",
    )
    limit = settings.training.get("save_total_limit")
    _require(
        limit is None or limit >= run.average_checkpoints,
        f"save_total_limit={limit} keeps fewer checkpoints than average_checkpoints={run.average_checkpoints} asks "
        "for. Raise it, or leave it out",
    )


def check_trees(config: SelfAttnConfig, syntax: str | None) -> None:
    """Refuse a model that reads trees without any, and trees that no encoding reads.

    Raises:
        ValueError: naming the encoding, or `syntax`.
    """
    positions = ", ".join(config.positions_of("encoder")) or "none"
    _require(
        not config.reads_trees or syntax is not None,
        f"the encoder's position encoding ({positions}) reads trees, and syntax does not say where they come from. "
        "Set syntax, for example to grammar or chain",
    )
    _require(
        config.reads_trees or syntax is None,
        f"syntax={syntax} would do nothing: the encoder's position encoding ({positions}) reads no trees. Set "
        "encoder_position_encoding to tree_depth, tree_relative or tree_path, or leave syntax out",
    )


def build_config(model: Mapping[str, Any], **from_tokenizer: Any) -> SelfAttnConfig:
    """The model's config; every refusal is a ValueError that names the field."""
    try:
        return SelfAttnConfig(**model, **from_tokenizer)
    except ValueError:
        raise
    except Exception as error:  # huggingface_hub's error for a wrong type is no ValueError
        raise ValueError(one_line(str(error))) from error


def annotation_of(name: str) -> Any:
    """What the setting takes.

    Raises:
        ValueError: for a name that no setting has, with the nearest one, or that no run takes, with what to do instead.
    """
    for types in _GROUPS.values():
        if name in types:
            return types[name]
    if name in NOT_TAKEN:
        raise ValueError(f"{name} is not taken. {NOT_TAKEN[name]}.")
    if name in DECIDED_ELSEWHERE:
        raise ValueError(f"{name} is not taken: the tokenizer decides it. See tokenizer_vocab_size for the vocabulary.")
    near = near_name(name, [known for types in _GROUPS.values() for known in types])
    raise ValueError(f"there is no setting {shown(name)}. {near}")


def _is_required(field: "dataclasses.Field[Any]") -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(f"{message}.")


# First match wins: `use_cache` is the config's.
_GROUPS: dict[str, dict[str, Any]] = {
    "model": MODEL_TYPES, "data": DATA_TYPES, "run": RUN_TYPES, "training": ARGUMENT_TYPES,
}  # fmt: skip
assert get_args(Metric)[0] == RunSettings.metric
