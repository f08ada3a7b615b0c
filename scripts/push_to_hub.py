"""Push a saved model to the Hub: `scripts/push_to_hub.py FOLDER owner/name [--private] [--revision BRANCH]`."""

import argparse
from pathlib import Path

import _cli

DESCRIPTION = """\
Push a saved model to the Hub, as one commit, once it has shown that a stranger can use it.

    scripts/push_to_hub.py runs/quickstart anna/quickstart
    scripts/push_to_hub.py runs/quickstart anna/quickstart --private --revision second-try
    scripts/push_to_hub.py runs/quickstart anna/quickstart --license mit

Before anything is uploaded: no weights may be pickles, the code beside them must be that of this package, and a fresh
process without the package, a token or the network opens the folder by every Auto class that it names, and writes. What
travels are weights, config, code, tokenizer, card and results; checkpoints stay here.

The token is that of `hf auth login`, or the environment variable HF_TOKEN; it is no option, since other people on a
machine can read command lines. HF_ENDPOINT names another Hub than huggingface.co.
"""


def main(arguments: list[str]) -> None:
    """Parse, look at the folder, push."""
    parser = argparse.ArgumentParser(
        description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="what scripts/train.py or save_pretrained() left")
    parser.add_argument("repo", metavar="owner/name", help="the repository; it is made where there is none")
    parser.add_argument("--private", action="store_true", help="make it a private one, or refuse one that is public")
    parser.add_argument(
        "--revision", metavar="BRANCH", help="branch to commit to; it is made where there is none (main)"
    )
    parser.add_argument(
        "--license", metavar="NAME", help="licence of the weights, for the card: mit, apache-2.0, cc-by-4.0, ..."
    )
    options = parser.parse_args(arguments)

    from selfattn_hf.sharing import CARD, Destination, card_of, check_licence, push_folder, with_licence
    from selfattn_hf.sharing.json_files import read_object
    from selfattn_hf.training.disk import write_text
    from selfattn_hf.training.publishing import say_pushed
    from selfattn_hf.training.run_folder import RESULTS_FILE, SETTINGS_FILE
    from selfattn_hf.training.yaml_files import read_yaml

    to = Destination(options.repo, options.private, options.revision)
    if options.license is not None:
        check_licence(options.license)
    folder: Path = options.folder
    examples = read_object(folder / RESULTS_FILE, "Delete it, or train again").get("examples", [])
    if (folder / "config.json").is_file() and not (folder / CARD).is_file():
        settings = read_yaml(folder / SETTINGS_FILE) if (folder / SETTINGS_FILE).is_file() else None
        write_text(folder / CARD, card_of(folder, settings))
        print(f"{folder / CARD} is new: read it, and say there what nobody else can know")
    if options.license is not None and (folder / "config.json").is_file():
        card = (folder / CARD).read_text(encoding="utf-8")
        if (licensed := with_licence(card, options.license)) != card:
            write_text(folder / CARD, licensed)
            print(f"{folder / CARD} says the licence {options.license} now")
    say_pushed(push_folder(folder, to, text=examples[0]["source"] if examples else "a"), to)


if __name__ == "__main__":
    _cli.run(main)
