"""Sharing: a folder's card, what is looked at before it leaves, and the push to the Hub."""

from .card import NOT_YET, OWNER_NAME, card_of
from .destination import Destination, check_destination
from .folder import CARD, check_folder, files_of
from .licence import check_licence, with_licence
from .pushing import Pushed, push_folder

__all__ = [
    "CARD",
    "NOT_YET",
    "OWNER_NAME",
    "Destination",
    "Pushed",
    "card_of",
    "check_destination",
    "check_folder",
    "check_licence",
    "files_of",
    "push_folder",
    "with_licence",
]
