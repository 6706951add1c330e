"""The key behind the names of patients lies in the user's config folder: tests have one of their own."""

import pytest

from koa_lightning.data.prepare import names


@pytest.fixture(autouse=True)
def own_key(tmp_path, monkeypatch):
    monkeypatch.delenv("KOA_KEY", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(names, "user_config_dir", lambda name: str(tmp_path / "config" / name))
