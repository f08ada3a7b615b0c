"""The push itself: a folder that was looked at becomes one commit; whatever happens, it is said what is there."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

import selfattn_hf

from .card import OWNER_NAME
from .destination import Destination, check_destination, hub_errors, reason
from .folder import CARD, check_folder, files_of, look_at, travels


@dataclass(frozen=True)
class Pushed:
    """What a push has left.

    Attributes:
        commit: its id: the revision to pin.
        url: page of the commit.
        files: how many files the model has there.
        is_new: whether the push made this commit; else everything was there already.
    """

    commit: str
    url: str
    files: int
    is_new: bool


def push_folder(folder: str | Path, to: Destination, *, text: str = "a", say: Callable[[str], None] = print) -> Pushed:
    """Look at a folder, then push what travels of it, as one commit.

    Files of a model that lie in the repository and no longer in the folder are deleted by the same commit; all else
    that lies there stays.

    Args:
        folder: a saved model.
        to: repository, branch, and whether it is to be private.
        text: what the model writes about, in the process that tries it.
        say: prints a line.

    Raises:
        ValueError: before anything is uploaded, for a folder, a token or a repository that cannot be used.
        ConnectionError: if the push fails on its way; it says whether a commit is there.
    """
    folder = Path(folder)
    look_at(folder)  # what costs nothing comes first
    user = check_destination(to)
    opened, wrote, remark = check_folder(folder, text)
    if remark:
        say(f"NOTE: {remark}")
    say(f"opened without the package by {', '.join(opened)}" + (f"; it wrote {wrote!r}" if wrote is not None else ""))
    files = files_of(folder)
    left = sorted({path.relative_to(folder).parts[0] for path in folder.iterdir()} - {n.split("/")[0] for n in files})
    if left:
        say(f"stays here: {', '.join(left)}")
    size = sum(path.stat().st_size for path in files.values())
    say(f"pushing {len(files)} files, {size / 1e6:,.1f} MB, as {user} to {to}")
    with _bars_on_a_terminal():
        message = f"Upload {folder.resolve().name} (selfattn_hf {selfattn_hf.__version__})"
        return _Push(HfApi(), to).commit(files, message)


@contextlib.contextmanager
def _bars_on_a_terminal() -> Iterator[None]:
    """The library's bars go on where somebody sees them move, and nowhere else."""
    if sys.stderr.isatty() or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


class _Push:
    """One conversation with the Hub, which remembers what was there before."""

    def __init__(self, api: HfApi, to: Destination) -> None:
        self.api, self.to = api, to
        self.made: str | None = None  # "repository" or "branch"
        self.before: str | None = None

    def commit(self, files: dict[str, Path], message: str) -> Pushed:
        """Everything in one commit, on top of what was there."""
        try:
            self._make_room()
            with hub_errors("the files that are there could not be listed"):
                there = self.api.list_repo_files(self.to.repo, revision=self.before)
            gone = [name for name in there if travels(name) and name not in files]
            operations = [CommitOperationAdd(name, _content(name, path, self.to)) for name, path in files.items()]
            with hub_errors("the upload failed"):
                done = self.api.create_commit(
                    self.to.repo,
                    [*operations, *(CommitOperationDelete(name, is_folder=False) for name in gone)],
                    commit_message=message,
                    revision=self.to.branch,
                    parent_commit=self.before,
                )
        except KeyboardInterrupt as stop:
            raise KeyboardInterrupt(f"interrupted while pushing to {self.to}. {self._state()}") from stop
        except (ValueError, ConnectionError) as error:
            raise type(error)(f"nothing is finished at {self.to}: {error} {self._state()}") from error
        return Pushed(done.oid, done.commit_url, len(files), done.oid != self.before)

    def _make_room(self) -> None:
        """Find the repository and the branch, or make them; refuse a public one where a private one is meant."""
        with hub_errors(f"{self.to.repo} could not be looked up"):
            try:
                info = self.api.model_info(self.to.repo)
            except RepositoryNotFoundError:
                info = None
        if info is None:
            with hub_errors(f"{self.to.repo} could not be made"):
                self.api.create_repo(self.to.repo, private=self.to.private)
            self.made = "repository"
        elif self.to.private and not info.private:
            raise ValueError(
                f"{self.to.repo} is there and public, and you asked for a private one. Make it private on its page, or "
                "choose another name."
            )
        self.before = self._head()
        if self.before is None:
            with hub_errors(f"the branch {self.to.branch} could not be made"):
                self.api.create_branch(self.to.repo, branch=self.to.branch)
            self.made = self.made or "branch"
            self.before = self._head()

    def _head(self) -> str | None:
        """The commit that the branch is at; None where there is none."""
        with hub_errors(f"{self.to} could not be looked up"):
            try:
                return self.api.model_info(self.to.repo, revision=self.to.branch).sha
            except (RepositoryNotFoundError, RevisionNotFoundError):
                return None

    def _state(self) -> str:
        """What is there now, in a sentence."""
        page = f"{constants.ENDPOINT}/{self.to.repo}"
        if self.before is None and self.made is None:
            return "Nothing was changed there."
        try:
            now = self._head()
        except (ValueError, ConnectionError) as error:
            return f"Whether a commit arrived cannot be asked now ({reason(error)}): look at {page} before you go on."
        if now != self.before:
            return f"But commit {now} is there, which was not before: look at {page} before you go on."
        made = f", but that the {self.made} was made, and no model is in it" if self.made else ""
        return f"No commit was made: nothing was changed there{made}. The same command tries again."


def _content(name: str, path: Path, to: Destination) -> str | bytes:
    """A file as it goes; in the card, the name of the repository stands where none, or the folder's, was known."""
    if name != CARD:
        return str(path.resolve())
    text, here, there = path.read_text(encoding="utf-8"), path.resolve().parent.name, to.repo.split("/")[1]
    for known in ("- name: {}\n  results:", "\n# {}\n"):
        text = text.replace(known.format(here), known.format(there), 1)
    return text.replace(OWNER_NAME, to.repo).encode()
