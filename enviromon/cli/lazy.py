"""A click group whose commands are imported when they are needed, and whose errors are sentences."""

import importlib
from collections.abc import Mapping
from typing import Any

import click

from enviromon import __version__
from enviromon.errors import EnviromonError


class LazyGroup(click.Group):
    """`commands_at` maps a command's name to `module:attribute`."""

    def __init__(self, *, commands_at: Mapping[str, str], **settings: Any) -> None:
        super().__init__(**settings, params=[_version_option()])
        self._commands_at = commands_at

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """The names, in the order in which they are given."""
        return list(self._commands_at)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import the command; None where there is none of that name."""
        if cmd_name not in self._commands_at:
            return None
        module, _, attribute = self._commands_at[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; an error that its user can act on becomes a sentence and exit code 1."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            from localcloud.sqlite import DatabaseFaultError, SchemaTooNewError  # noqa: PLC0415 - at a fault only

            if isinstance(error, EnviromonError | DatabaseFaultError | SchemaTooNewError):
                raise click.ClickException(str(error)) from error
            raise


def _version_option() -> click.Option:
    def show(ctx: click.Context, _: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's signature
        if value:
            click.echo(f"enviromon {__version__}")
            ctx.exit()

    return click.Option(
        ["--version"], is_flag=True, expose_value=False, is_eager=True, callback=show, help="The version."
    )
