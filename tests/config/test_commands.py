from importlib import import_module
from importlib.util import find_spec

import pytest

from koa_lightning.config.commands import COMMANDS, table
from koa_lightning.config.compose import config_dir


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_a_module_that_can_be_run(name):
    assert COMMANDS[name].name == name
    assert find_spec(f"koa_lightning.{name}") is not None
    assert callable(import_module(f"koa_lightning.{name}").main)


@pytest.mark.parametrize("name", [name for name, command in COMMANDS.items() if command.function])
def test_what_a_command_calls_is_there(name):
    command = COMMANDS[name]
    for address in filter(None, (command.function, command.before)):
        module, function = address.split(":")
        assert callable(getattr(import_module(f"koa_lightning.{module}"), function)), address
    assert (config_dir() / f"{name}.yaml").is_file()


def test_the_list_has_each_command_once_under_its_group():
    lines = table().splitlines()
    assert sorted(line.split()[0] for line in lines if line.startswith("  ")) == sorted(COMMANDS)
    group, heading = {}, ""
    for line in lines[1:]:
        if line.startswith("  "):
            group[line.split()[0]] = heading
        else:
            heading = line
    assert group == {name: command.group for name, command in COMMANDS.items()}
    assert max(map(len, lines)) <= 100
