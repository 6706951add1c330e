from koa_lightning.tracking.history import History


def test_values_are_kept_in_the_order_of_logging_after_those_of_the_past():
    past = {"loss": [(0, 2.0)]}
    history = History(past)
    history.add({"loss": 1, "mae": 0.5}, 1)
    history.add({"loss": 0.5}, 0)
    assert history.rows() == {"loss": [(0, 2.0), (1, 1.0), (0, 0.5)], "mae": [(1, 0.5)]}
    assert past == {"loss": [(0, 2.0)]}


def test_rows_are_a_copy():
    history = History()
    history.add({"loss": 1.0}, 0)
    history.rows()["loss"].append((1, 9.0))
    assert history.rows() == {"loss": [(0, 1.0)]}
