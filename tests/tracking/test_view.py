import json

from mlflow import MlflowClient

from koa_lightning.tracking import ui, view


def test_a_new_experiment_opens_as_model_training_with_the_columns_that_matter(store):
    identity = store.experiment_id("koa-lightning")
    tags = MlflowClient(store.uri).get_experiment(identity).tags
    assert tags["mlflow.experimentKind"] == "custom_model_development"
    state = json.loads(tags[f"mlflow.sharedViewState.{view.SHARED}"])
    assert state["orderByKey"] == "metrics.`best/quadratic_kappa`" and state["orderByAsc"] is False
    assert {"metrics.`best/mae`", "metrics.`test/accuracy`", "tags.`marks`"} <= set(state["selectedColumns"])


def test_an_experiment_of_an_older_version_gets_its_view_when_it_is_looked_at(store):
    client = store.client()
    identity = client.create_experiment("koa-lightning", tags={"theirs": "stays"})
    assert ui.best_first(store) == view.address(identity)
    tags = client.get_experiment(identity).tags
    assert tags["theirs"] == "stays" and view.tags().items() <= tags.items()
    assert f"/experiments/{identity}/runs?" in view.address(identity)
    assert f"viewStateShareKey={view.SHARED}" in view.address(identity)
