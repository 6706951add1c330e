import subprocess
import sys

import pytest

from koa_lightning.tracking.facts import git_facts, run_facts


def git(folder, *command):
    identity = ("-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", *identity, *command], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path):
    git(tmp_path, "init", "-b", "main")
    (tmp_path / "a.py").write_text("a = 1\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    return tmp_path


def test_clean_checkout(repository):
    expected = {"commit": git(repository, "rev-parse", "HEAD"), "dirty": "false", "branch": "main"}
    assert git_facts((repository,)) == expected


@pytest.mark.parametrize("file", ["a.py", "new.py"])
def test_changed_and_new_files_make_it_dirty(repository, file):
    (repository / file).write_text("a = 2\n")
    assert git_facts((repository,))["dirty"] == "true"


def test_no_branch(repository):
    git(repository, "checkout", "--detach")
    assert git_facts((repository,))["branch"] == "unknown"


def test_first_folder_in_a_repository_counts(repository, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    assert git_facts((outside, repository))["branch"] == "main"
    assert set(git_facts((outside,)).values()) == {"unknown"}


def test_machine_without_git(repository, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert set(git_facts((repository,)).values()) == {"unknown"}


def test_facts_are_texts_and_name_all_that_matters():
    facts = run_facts()
    versions = {name.removeprefix("version.") for name in facts if name.startswith("version.")}
    assert versions >= {"python", "torch", "lightning", "timm", "torchmetrics", "kornia", "mlflow"}
    assert versions >= {"hydra", "pandas", "koa_lightning"}
    assert facts.keys() >= {"git.commit", "git.dirty", "git.branch"}
    assert all(isinstance(value, str) and value for value in facts.values())
    assert facts["version.python"] == sys.version.split()[0]
    assert int(facts["machine.threads"]) >= 1


def test_facts_import_nothing_heavy(with_package):
    code = "import sys; from koa_lightning.tracking.facts import run_facts; run_facts();"
    code += "print({'torch', 'mlflow', 'lightning'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=with_package)
    assert done.stdout.strip() == "set()"
