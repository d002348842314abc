"""How a setting says that it is impossible. Apart from the steps, so that what steps share can say it, too."""

from __future__ import annotations


class WrongSetting(ValueError):
    """A setting of a step is impossible.

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
