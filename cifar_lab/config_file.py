"""The file of ``--config``, and a run's own: settings by their names, as YAML.

It is not trusted. Aliases, which let a few lines stand for billions of values, have no use in a
list of settings and are refused, and so is a file that is too long to be one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from cifar_lab.errors import UserError
from cifar_lab.files import read_file, shown

FILE_LIMIT = 2**16  # bytes; all settings of a run take about 1,000


class _PlainLoader(yaml.SafeLoader):
    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.MarkedYAMLError(problem="aliases (*) are not read", problem_mark=mark)
        return super().compose_node(parent, index)


def read_config(path: str, flag: str = "") -> dict[str, Any]:
    """The settings of a file, unchecked.

    Args:
        path: of the file.
        flag: that named it, ``--config`` say, for what an error says; none for a run's own.

    Raises:
        UserError: it cannot be read, or is no list of settings.
    """
    name = f"{flag} {shown(path)}".strip()
    try:
        text = read_file(Path(path).expanduser(), FILE_LIMIT).decode("utf-8")
    except OSError as error:
        raise UserError(f"{name}: cannot be read ({error.strerror})") from error
    except UserError as error:
        raise UserError(f"{flag} {error}".strip()) from error
    except (ValueError, RuntimeError) as error:  # no UTF-8; no such home folder
        raise UserError(f"{name}: cannot be read ({shown(error)})") from error
    try:
        content = yaml.load(text, _PlainLoader)
    except Exception as error:  # values such as 0x or 2001-99-99 are more than YAML errors
        reason = shown(error) or type(error).__name__
        raise UserError(f"{name}: not a YAML file ({reason})") from error
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise UserError(f"{name}: expected lines of the form 'setting: value'")
    return content
