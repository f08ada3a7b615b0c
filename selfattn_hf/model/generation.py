"""Chapter 8 of 8, its second part: word after word. Before: stacks.py. Next: causal_lm.py.

transformers' `generate` writes with every model that has a head over the vocabulary; here it learns what these
decoders remember.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import GenerationConfig
from transformers.cache_utils import DynamicLayer
from transformers.generation.configuration_utils import GenerationMode
from transformers.utils import cached_file

from .configuration_selfattn import SelfAttnConfig
from .decoding import DecodingState
from .fields import near, refuse_unless
from .folders import WeightsError, read_json
from .layers import DecoderCache, make_cache
from .pretrained import SelfAttnPreTrainedModel
from .writing import Ends, Process, search_beams, write_greedily

# Ways of generating that a `DecodingState` serves.
SOONER = (
    GenerationMode.GREEDY_SEARCH, GenerationMode.SAMPLE, GenerationMode.BEAM_SEARCH, GenerationMode.BEAM_SAMPLE,
)  # fmt: skip
MOST_BEAMS = 1000
MOST_NEW_TOKENS = 100_000
_FILE = "generation_config.json"


class SelfAttnGenerator(SelfAttnPreTrainedModel):
    """What models that generate share; they inherit from transformers' `GenerationMixin` as well."""

    @classmethod
    def load_trained(cls, folder_or_id: str | Path, *, revision: str | None = None, **options: Any) -> Any:
        """As `from_pretrained`, for a model that is used as it is: no part of it may be new.

        Args:
            folder_or_id: a saved folder, or a name on the Hub.
            revision: commit, tag or branch on the Hub.
            **options: as for `from_pretrained`; without `config` the folder's own is loaded first.

        Raises:
            ValueError: for a model of another kind, weights that are missing or do not fit, and a saved way of writing
                that is none.
            OSError: where there is nothing to load.
        """
        config = options.pop("config", None) or SelfAttnConfig.from_pretrained(folder_or_id, revision=revision)
        check_generation(_saved_generation(folder_or_id, revision), config)
        model, report = cls.from_pretrained(
            folder_or_id, config=config, revision=revision, output_loading_info=True, **options
        )
        if missing := sorted(report["missing_keys"]):
            raise WeightsError(
                f"{folder_or_id} has no weights for {', '.join(missing[:5])}, so that a {cls.__name__} would say what "
                f"chance says. It was saved by: {', '.join(config.architectures or ['unknown'])}. Train it first."
            )
        return model

    @staticmethod
    def create_masks_for_generate(*, attention_mask: Tensor | None, **kwargs: Any) -> Tensor | None:
        """Leave the mask as it is, [B, K], for static caches too: places are counted from it."""
        return attention_mask

    def _prepare_cache_for_generation(
        self,
        generation_config: GenerationConfig,
        model_kwargs: dict[str, Any],
        generation_mode: GenerationMode,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """Give generate() the cache that this model's mixers need, where the user gave none."""
        if not self.config.future_mask:
            generation_config.use_cache = model_kwargs["use_cache"] = False
        implementation = generation_config.cache_implementation
        own_choice = model_kwargs.get("past_key_values") is None and generation_config.use_cache is not False
        if own_choice and implementation in (None, "dynamic"):
            if self._decodes_sooner(generation_config, model_kwargs, generation_mode):
                beams, tokens = generation_config.num_beams or 1, generation_config.max_length or 0
                decoder, head = self.get_decoder(), self.get_output_embeddings()
                model_kwargs["past_key_values"] = DecodingState(decoder, head, beams, tokens)
                return
            model_kwargs["past_key_values"] = make_cache(self.config)
            if generation_config.is_assistant:
                model_kwargs["past_key_values"].activate_past_recording()
            return
        if own_choice and not all(type(layer) is DynamicLayer for layer in DecoderCache(self.config).layers):
            raise ValueError(
                f"cache_implementation={implementation!r} holds keys and values, and "
                f"decoder_mixer={self.config.decoder_mixer!r} remembers something else. Leave cache_implementation out."
            )
        super()._prepare_cache_for_generation(generation_config, model_kwargs, generation_mode, *args, **kwargs)

    def _sample(
        self, input_ids: Any, logits_processor: Any, stopping_criteria: Any, generation_config: Any, **kwargs: Any
    ) -> Any:
        """As transformers; the greedy search of a `DecodingState` in a shorter loop."""
        begun = None
        if not generation_config.do_sample and kwargs.get("streamer") is None:
            begun = self._begin_writing(input_ids, logits_processor, stopping_criteria, generation_config, kwargs)
        if begun is None:
            return super()._sample(input_ids, logits_processor, stopping_criteria, generation_config, **kwargs)
        return write_greedily(*begun)

    def _beam_search(
        self, input_ids: Any, logits_processor: Any, stopping_criteria: Any, generation_config: Any, **kwargs: Any
    ) -> Any:
        """As transformers; the search of a `DecodingState` that draws nothing in a shorter loop."""
        begun = None
        if not generation_config.do_sample and not generation_config.low_memory:
            begun = self._begin_writing(input_ids, logits_processor, stopping_criteria, generation_config, kwargs)
        if begun is None:
            return super()._beam_search(input_ids, logits_processor, stopping_criteria, generation_config, **kwargs)
        return search_beams(*begun, generation_config)

    def _begin_writing(
        self, input_ids: Any, processors: Any, criteria: Any, how: GenerationConfig, given: dict[str, Any]
    ) -> tuple[DecodingState, Any, Tensor, Any, Ends] | None:
        """What the shorter loops go on with, after a look at what is begun; None where they do not serve."""
        state, ends = given.get("past_key_values"), Ends.of(how, criteria)
        if not isinstance(state, DecodingState) or ends is None or given.get("synced_gpus"):
            return None
        if state.length:
            return None
        logits = state.answer(input_ids, given["encoder_outputs"], given.get("attention_mask")).logits[:, -1]
        return state, input_ids, logits, _in_turn(processors) if processors else None, ends

    def _decodes_sooner(self, how: GenerationConfig, given: dict[str, Any], mode: GenerationMode) -> bool:
        """Whether `DecodingState` serves: for text alone, since it is no cache to go on with and records nothing."""
        asks_more = how.return_dict_in_generate or how.output_attentions or how.output_hidden_states or how.is_assistant
        return (
            mode in SOONER
            and not asks_more
            and how.prompt_lookup_num_tokens is None
            and given.get("decoder_attention_mask") is None
            and not hasattr(vars(self).get("forward"), "_torchdynamo_orig_callable")  # compiled for another cache
            and DecodingState.serves(self.get_decoder(), self.get_output_embeddings())
        )


def _in_turn(processors: Iterable[Any]) -> Process:
    """What changes scores, one after the other; transformers' list of them asks each for its signature every time."""

    def process(ids: Tensor, scores: Tensor) -> Tensor:
        for one in processors:
            scores = one(ids, scores)
        return scores

    return process


def check_generation(how: dict[str, Any], config: SelfAttnConfig) -> None:
    """Refuse a saved way of writing that is none, or has no end; transformers passes over fields that there are not.

    Args:
        how: the content of a generation_config.json.
        config: of the model.

    Raises:
        ValueError: naming the field, the rule and what was given.
    """
    known = GenerationConfig().to_dict()
    for name, given in how.items():
        hint = near(name, known) or " Leave it out."
        refuse_unless(name in known, f"{_FILE} has no field {name}, got {name}={given!r:.80}.{hint.rstrip('.')}")
    places = config.known_places("decoder") or MOST_NEW_TOKENS
    for name, most in (("num_beams", MOST_BEAMS), ("num_return_sequences", MOST_BEAMS), ("max_new_tokens", places)):
        given = how.get(name)
        refuse_unless(
            given is None or (type(given) is int and 1 <= given <= most),
            f"{name} is a whole number from 1 to {most}, got {given!r:.80}. Set it in {_FILE}",
        )
    for name in ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"):
        given = how.get(name)
        for token in given if isinstance(given, list) else [given]:
            refuse_unless(
                token is None or (type(token) is int and 0 <= token < config.vocab_size),
                f"{name} is a token from 0 to {config.vocab_size - 1}, got {token!r:.80}. Set it in {_FILE}",
            )


def _saved_generation(folder_or_id: str | Path, revision: str | None) -> dict[str, Any]:
    """What is saved of the way of writing; a file that cannot be read is refused, which transformers takes for none."""
    path = cached_file(str(folder_or_id), _FILE, _raise_exceptions_for_missing_entries=False, revision=revision)
    content = {} if path is None else read_json(Path(path))
    if not isinstance(content, dict):
        raise ValueError(f"{path} must be a dictionary. Download or save it again.")
    return content
