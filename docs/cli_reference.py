"""The reference of the commands, as Markdown, from the application itself."""

from __future__ import annotations

import inspect
import re
from typing import Any

import typer

from caecodec.cli.app import app

EXAMPLES = re.compile(r"^Examples?:\s*(.*)", re.MULTILINE | re.DOTALL)


def reference() -> str:
    """Return a section for each command: what it does, examples, arguments and options."""
    group: Any = typer.main.get_command(app)
    return "\n".join(_section(name, command) for name, command in group.commands.items())


def _section(name: str, command: Any) -> str:
    text, _, examples = EXAMPLES.sub("\0\\1", inspect.cleandoc(command.help)).partition("\0")
    context = typer.Context(command, info_name=name)
    records = [parameter.get_help_record(context) for parameter in command.params]
    rows = [f"| `{record[0]}` | {_plain(record[1])} |" for record in records if record]
    parts = [f"## {name}", _plain(text.strip())]
    if examples:
        parts.append(f"```console\n{inspect.cleandoc(examples).strip()}\n```")
    parts.append("| argument or option | what |\n|---|---|\n" + "\n".join(rows))
    return "\n\n".join(parts) + "\n"


def _plain(text: str) -> str:
    """Escape what Markdown would read as its own."""
    return re.sub(r"([*_|\[\]])", r"\\\1", text).replace("<", "&lt;")
