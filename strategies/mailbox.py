"""Which of the messages that were sent still have an answer to come."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flwr.app import Message

    from fedcomp.link.ledger import Purpose


MOST_EXCHANGES = 20
"""An answer that comes later than so many is not asked for: most grids need a request for each."""


@dataclass(frozen=True)
class Letter:
    """A message that was sent.

    Attributes
    ----------
    request
        What the strategy sent, as long as its exchange waits for the answer.
    unused
        What an answer is booked as when nobody waits for it.
    age
        In exchanges.
    """

    site: str
    purpose: Purpose
    request: Message | None
    unused: str = "duplicate"
    age: int = 0


class Mailbox:
    """Letters by the id of their message: waiting, answered, or overdue."""

    def __init__(self) -> None:
        self._letters: dict[str, Letter] = {}
        self._instead: dict[str, str] = {}

    def begin(self) -> None:
        """Wait for none of the letters so far; those without an answer are overdue for a while."""
        self.give_up(self._letters)
        late = {i: self._letters[i] for i in self.overdue()}
        self._letters = {
            identifier: replace(letter, age=letter.age + 1)
            for identifier, letter in late.items()
            if letter.age < MOST_EXCHANGES
        }
        self._instead.clear()

    def add(self, identifier: str, letter: Letter, instead_of: str | None = None) -> None:
        """Note a letter that was sent, maybe because another one was of no use."""
        self._letters[identifier] = letter
        if instead_of is not None:
            self._instead[instead_of] = identifier

    def waiting(self, identifiers: Iterable[str]) -> list[str]:
        """Return those that wait for an answer, or what was sent instead of them."""
        found = [self._instead.get(identifier, identifier) for identifier in identifiers]
        return [i for i in found if i in self._letters and self._letters[i].request is not None]

    def overdue(self) -> list[str]:
        """Return the letters whose answers come too late, if ever."""
        return [i for i, letter in self._letters.items() if letter.unused == "late"]

    def give_up(self, identifiers: Iterable[str]) -> list[Letter]:
        """Return the letters that still wait; they are overdue from now on."""
        letters = {i: self._letters[i] for i in self.waiting(identifiers)}
        for identifier, letter in letters.items():
            self._letters[identifier] = replace(letter, request=None, unused="late")
        return list(letters.values())

    def take(self, identifier: str) -> Letter | None:
        """Return the letter that an answer belongs to; another answer to it is a duplicate."""
        letter = self._letters.get(identifier)
        if letter is not None:
            self._letters[identifier] = replace(letter, request=None, unused="duplicate")
        return letter
