"""A run that ends on the Hub: name and token are checked before the first step, the folder is pushed at the end."""

import json

from selfattn_hf.sharing import Destination, Pushed, check_destination, push_folder

from .disk import write_text
from .progress import say
from .run_folder import RESULTS_FILE, RUN_FILE, read_run
from .settings import RunSettings, Settings


def destination_of(run: RunSettings) -> Destination | None:
    """Where a run is to be pushed to; None where it stays.

    Raises:
        ValueError: for a name or branch that the Hub would not take.
    """
    if not run.push_to_hub or run.hub_model_id is None:
        return None
    return Destination(run.hub_model_id, run.hub_private_repo, run.hub_revision)


def check_push(settings: Settings) -> None:
    """Refuse a run that could not be pushed when it ends: no token, a wrong one, one of somebody else.

    Raises:
        ValueError, ConnectionError: as `check_destination`.
    """
    to = destination_of(settings.run)
    if to is not None and _pushed_before(settings, to) is None:
        user = check_destination(to)
        say(f"the end of this run will be pushed to {to}, as {user}")


def publish(settings: Settings) -> Pushed | None:
    """Push a run that is finished, unless it asks for no push, or was pushed there already.

    Raises:
        ValueError, ConnectionError: as `push_folder`; the folder is whole, and the same command pushes it.
    """
    to, folder = destination_of(settings.run), settings.output_dir
    if to is None:
        return None
    if (commit := _pushed_before(settings, to)) is not None:
        say(f"it was pushed to {to} before: commit {commit}")
        return None
    examples = json.loads((folder / RESULTS_FILE).read_text(encoding="utf-8"))["examples"]
    text = examples[0]["source"] if examples else "a"
    try:
        pushed = push_folder(folder, to, text=text, say=say)
    except (ValueError, ConnectionError) as error:
        raise type(error)(f"{error} The model is whole in {folder}, and the same command pushes it.") from error
    kept = {**read_run(folder), "pushed": {"to": str(to), "commit": pushed.commit}}
    write_text(folder / RUN_FILE, json.dumps(kept, indent=1) + "\n")
    say_pushed(pushed, to)
    return pushed


def say_pushed(pushed: Pushed, to: Destination) -> None:
    """How anybody gets what was pushed."""
    say(f"{'pushed' if pushed.is_new else 'all of it was there already'}: {pushed.url}")
    say(f'pin it: Translator.from_pretrained("{to.repo}", revision="{pushed.commit}")')


def _pushed_before(settings: Settings, to: Destination) -> str | None:
    """The commit that this run became there."""
    if not (settings.output_dir / RUN_FILE).is_file():
        return None
    noted = read_run(settings.output_dir).get("pushed")
    return str(noted["commit"]) if isinstance(noted, dict) and noted.get("to") == str(to) else None
