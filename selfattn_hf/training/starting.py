"""What a run starts from: a revision goes with a model on the Hub, and the commit that was found there is kept."""

from pathlib import Path

from transformers.utils.hub import cached_file, extract_commit_hash


def check_start(source: str | None, revision: str | None) -> None:
    """Refuse a revision of nothing, or of a folder, which has none.

    Raises:
        ValueError: naming both settings.
    """
    if revision is None:
        return
    if source is None:
        raise ValueError(
            f"init_from_revision={revision} does nothing without init_from. Set init_from to a model on the Hub, or "
            "leave it out."
        )
    if Path(source).exists():
        raise ValueError(
            f"init_from_revision={revision} is for a model on the Hub, and init_from={source} is a folder here, which "
            "is as it is. Leave it out."
        )


def commit_of(source: str, revision: str | None) -> str | None:
    """The commit that a model on the Hub is read at; None for a folder."""
    if Path(source).exists():
        return None
    found: str | None = extract_commit_hash(cached_file(source, "config.json", revision=revision), None)
    return found
