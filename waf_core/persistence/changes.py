"""What one transaction has changed of one record, in its shortest form.

A rule may change a variable with each of ten thousand arguments; what a store is told of it is one change of the value,
one of its end and one of its decay.  A sum of numbers counts beside other transactions as the numbers do.
"""

from __future__ import annotations

from waf_core.operators.numeric import plus
from waf_core.persistence import Change
from waf_core.persistence.memory import MAX_VALUE_BYTES


class _Variable:
    """A `delete` comes before all else that is still to be done."""

    def __init__(self) -> None:
        self.deleted = False
        self.kind = ""
        """set, add, or nothing."""
        self.value = b""
        """When it is set."""
        self.sum = 0
        """When it is added to."""
        self.seconds = 0
        self.decay = b""

    def forget(self) -> None:
        self.deleted, self.kind, self.seconds, self.decay = True, "", 0, b""


class Changes:
    """Of the variables of a record, by name, in the order in which they were first changed."""

    __slots__ = ("_variables",)

    def __init__(self) -> None:
        self._variables: dict[bytes, _Variable] = {}

    def set(self, name: bytes, value: bytes) -> None:
        variable = self._of(name)
        variable.kind, variable.value = "set", value[:MAX_VALUE_BYTES]

    def add(self, name: bytes, number: int) -> None:
        variable = self._of(name)
        if variable.kind == "set":
            variable.value = plus(variable.value, number)
        elif variable.kind == "add":
            variable.sum += number
        else:
            variable.kind, variable.sum = "add", number

    def delete(self, name: bytes) -> None:
        self._of(name).forget()

    def expire(self, name: bytes, seconds: int) -> None:
        """The last one holds; without any time left it is the end of the variable."""
        if seconds > 0:
            self._of(name).seconds = seconds
        else:
            self.delete(name)

    def deprecate(self, name: bytes, number: int, period: int) -> None:
        """The first one holds: a decay goes on from when it began."""
        variable = self._of(name)
        if not variable.decay:
            variable.decay = b"%d/%d" % (number, period)

    def _of(self, name: bytes) -> _Variable:
        variable = self._variables.get(name)
        if variable is None:
            variable = self._variables[name] = _Variable()
        return variable

    def take(self) -> list[Change]:
        """What a store has to do, in order; nothing is left here."""
        changes: list[Change] = []
        for name, variable in self._variables.items():
            if variable.deleted:
                changes.append(Change("delete", name, b""))
            if variable.kind == "set":
                changes.append(Change("set", name, variable.value))
            elif variable.kind == "add":
                changes.append(Change("add", name, b"%d" % variable.sum))
            if variable.seconds:
                changes.append(Change("expire", name, b"%d" % variable.seconds))
            if variable.decay:
                changes.append(Change("deprecate", name, variable.decay))
        if changes:
            self._variables = {}
        return changes
