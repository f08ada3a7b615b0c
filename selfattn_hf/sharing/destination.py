"""Where a model goes on the Hub: the name, and whether somebody may write there. Errors of the Hub in one sentence."""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from huggingface_hub import HfApi, constants, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled
from huggingface_hub.utils import validate_repo_id

_COMMIT = re.compile(r"[0-9a-f]{7,40}")
_BRANCH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*")
_LOG_IN = (
    "run `hf auth login`, or set HF_TOKEN to a token that may write; https://huggingface.co/settings/tokens has them"
)


@dataclass(frozen=True)
class Destination:
    """A repository of the Hub that a model goes to.

    Attributes:
        repo: `owner/name`.
        private: make it a private one, or require that it is.
        revision: branch to commit to; None: main.

    Raises:
        ValueError: for a name that the Hub would not take, or a revision that is no branch.
    """

    repo: str
    private: bool = False
    revision: str | None = None

    def __post_init__(self) -> None:
        try:
            validate_repo_id(self.repo)
        except HFValidationError as error:
            raise ValueError(f"{self.repo[:120]!r} is no name of a repository: {str(error).rstrip('.')}.") from error
        if self.repo.count("/") != 1:
            raise ValueError(f"a model goes to owner/name, got {self.repo!r}. Put your user name, or your "
                             "organisation's, and a slash before it.")  # fmt: skip
        if self.revision is not None:
            if not _BRANCH.fullmatch(self.revision) or ".." in self.revision or self.revision.endswith(("/", ".lock")):
                raise ValueError(f"revision={self.revision!r} is no name of a branch. Use letters, digits, - and _.")
            if _COMMIT.fullmatch(self.revision) and len(self.revision) == 40:
                raise ValueError(
                    f"revision={self.revision} is a commit, and what is committed cannot change. Name a branch."
                )

    @property
    def branch(self) -> str:
        """The branch that is committed to."""
        return self.revision or constants.DEFAULT_REVISION

    def __str__(self) -> str:
        return self.repo if self.revision is None else f"{self.repo} (branch {self.revision})"


def check_destination(to: Destination) -> str:
    """Ask the Hub who the token belongs to, and refuse one that may not write there; changes nothing.

    Returns:
        The name of the user.

    Raises:
        ValueError: if there is no token, or one that the Hub does not know, that may only read, or is somebody else's.
        ConnectionError: if the Hub cannot be reached.
    """
    token = get_token()
    if not token:
        raise ValueError(f"pushing to {to.repo} needs a token, and there is none: {_LOG_IN}.")
    with hub_errors(f"the token for {to.repo} could not be checked"):
        who: dict[str, Any] = HfApi().whoami(token=token)
    role = who.get("auth", {}).get("accessToken", {}).get("role")
    name = who.get("name", "")
    if role == "read":
        raise ValueError(f"the token, of {name}, may only read, and pushing to {to.repo} writes: {_LOG_IN}.")
    owners = [name, *(organisation.get("name", "") for organisation in who.get("orgs", []))]
    if to.repo.split("/")[0] not in owners:
        raise ValueError(
            f"the token is of {name}, who cannot write to {to.repo}: the owner must be one of {', '.join(owners)}."
        )
    return str(name)


@contextlib.contextmanager
def hub_errors(what: str) -> Iterator[None]:
    """Errors of a conversation with the Hub as one sentence, in which no token stands.

    Raises:
        ValueError: where the Hub does not know the token, or refuses what was asked for.
        ConnectionError: where the Hub is not reached, fails, or is switched off (HF_HUB_OFFLINE).
    """
    try:
        yield
    except OfflineModeIsEnabled as error:
        raise ConnectionError(f"{what}: HF_HUB_OFFLINE is set, so the Hub is not asked. Unset it.") from error
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else None
        if status == 401:
            raise ValueError(f"{what}: {constants.ENDPOINT} does not know the token (401): {_LOG_IN}.") from error
        kind = ValueError if status is not None and 400 <= status < 500 else ConnectionError
        raise kind(f"{what}: {reason(error)}.") from error
    except (ValueError, KeyboardInterrupt):
        raise
    except Exception as error:  # of the HTTP client's many kinds
        raise ConnectionError(f"{what}: {reason(error)}. The address is {constants.ENDPOINT}.") from error


def reason(error: BaseException) -> str:
    """What went wrong, in a line: neither a token nor the signed part of an address stands in it."""
    causes = [error]
    while (cause := causes[-1].__cause__) is not None and len(causes) < 3:
        causes.append(cause)
    text = ": ".join(
        dict.fromkeys(" ".join(str(cause).split()).rstrip(".") or type(cause).__name__ for cause in causes)
    )
    token = get_token()
    if token:
        text = text.replace(token, "(token)")
    return re.sub(r"\?[^\s'\"]+", "", text)[:400]
