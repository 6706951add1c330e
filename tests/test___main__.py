import sys

import pytest

from koa_lightning.__main__ import main


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"]])
def test_without_a_command_all_are_listed(arguments, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["koa", *arguments])
    main()
    out = capsys.readouterr().out
    assert "  train " in out and out.endswith("research use only, not a medical device\n")


def test_an_unknown_command_is_one_line_with_the_nearest(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["koa", "tran"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    line = "error: tran: no such command; did you mean 'train'? (koa --help lists them)\n"
    assert capsys.readouterr().err == line


def test_a_command_gets_its_own_arguments(monkeypatch):
    seen = []
    monkeypatch.setattr("runpy.run_module", lambda name, **how: seen.append((name, sys.argv)))
    monkeypatch.setattr(sys, "argv", ["koa", "split", "data=phantom"])
    main()
    assert seen == [("koa_lightning.split", ["koa split", "data=phantom"])]
