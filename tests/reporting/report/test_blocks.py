from koa_lightning.reporting.report.blocks import number, percent, with_interval


def test_numbers_in_cells():
    assert (number(0.12349), number(None), percent(0.125, 1), percent(None)) == ("0.123", "–", "12.5%", "–")  # noqa: RUF001
    assert with_interval({"value": 0.5, "low": 0.41, "high": 0.6}) == "0.500 (0.410 to 0.600)"
    assert with_interval({"value": 0.5, "low": None, "high": None}) == "0.500"
    assert with_interval({"value": None, "low": None, "high": None}) == with_interval(None) == "–"  # noqa: RUF001
