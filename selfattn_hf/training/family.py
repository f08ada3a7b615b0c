"""A family of runs that are compared: the models of several settings files, and the files again with other sizes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from selfattn_hf import SelfAttnConfig

from .matching import Matched
from .settings import build_config, read_settings
from .yaml_files import dump_yaml, read_yaml


def read_family(
    paths: Sequence[str | Path], overrides: Mapping[str, str | bool] | None = None, *, vocab_size: int | None = None
) -> dict[str, SelfAttnConfig]:
    """The model configs of settings files, by the files' names without ending.

    Args:
        paths: YAML files of runs.
        overrides: setting -> word as it was typed, for all of them.
        vocab_size: tokens of the vocabulary; None: each file's `tokenizer_vocab_size`.

    Raises:
        ValueError: as `read_settings`, and for two files of one name, or a file that does not say how large its
            vocabulary or its model is.
    """
    family: dict[str, SelfAttnConfig] = {}
    for path in paths:
        settings, name = read_settings(path, overrides), Path(path).stem
        if name in family:
            raise ValueError(
                f"two files are called {name}, and a family tells its members by name. Rename one of them."
            )
        if settings.run.init_from is not None:
            raise ValueError(f"{path}: init_from={settings.run.init_from} brings its own sizes. Leave it out to match.")
        if settings.data.tokenizer is not None and vocab_size is None:
            raise ValueError(
                f"{path}: tokenizer={settings.data.tokenizer} is loaded as it is, and how many tokens it has is not "
                "looked up here. Give vocab_size."
            )
        tokens = settings.data.tokenizer_vocab_size if vocab_size is None else vocab_size
        family[name] = build_config(settings.model, vocab_size=tokens)
    return family


def write_family(
    folder: str | Path,
    paths: Sequence[str | Path],
    matched: Mapping[str, Matched],
    overrides: Mapping[str, str | bool] | None = None,
) -> list[Path]:
    """Write settings files with the sizes that were found; each run goes to a folder of its own, runs/FOLDER/NAME.

    Args:
        folder: where to write; made where it is missing.
        paths: the files that the family was read from.
        matched: what `match_parameters` found, by the files' names without ending.
        overrides: as they were given to `read_family`; they are written too.

    Raises:
        ValueError: if a file is there already, or `overrides` has an output_dir. Nothing has been written then.
    """
    if "output_dir" in (overrides or {}):
        raise ValueError("output_dir would be one folder for all runs, and each needs its own. Leave it out.")
    texts: dict[Path, str] = {}
    for path in paths:
        settings, target = read_settings(path, overrides), Path(folder) / f"{Path(path).stem}.yaml"
        if target.exists():
            raise ValueError(f"{target} is there already, and nothing is overwritten. Choose another folder.")
        one = matched[target.stem]
        typed = {**vars(settings.data), **vars(settings.run), **settings.training, **settings.model}
        sizes = {name: after for name, (_, after) in one.changed.items() if name != "head_width"}
        values = read_yaml(path) | {name: typed[name] for name in overrides or {}} | sizes
        values["output_dir"] = (Path("runs") / Path(folder).name / target.stem).as_posix()
        texts[target] = (
            f"# {path} with {one.after:,} parameters, {one.difference:+.2%} from {one.target:,}, for a vocabulary of "
            f"{one.config.vocab_size} tokens.\n#\n#   python scripts/train.py {target}\n{dump_yaml(values)}"
        )
    Path(folder).mkdir(parents=True, exist_ok=True)
    for target, text in texts.items():
        target.write_text(text, encoding="utf-8")
    return list(texts)
