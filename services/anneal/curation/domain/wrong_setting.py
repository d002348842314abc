"""How a step, or what a step is made of, says that one of its settings is impossible."""

from __future__ import annotations


class WrongSetting(ValueError):
    """A setting is impossible.

    Attributes:
        field: the setting.
    """

    def __init__(self, field: str, description: str) -> None:
        super().__init__(description)
        self.field = field


def need(holds: bool, field: str, description: str) -> None:
    """Check a setting.

    Raises:
        WrongSetting: the condition does not hold.
    """
    if not holds:
        raise WrongSetting(field, description)
