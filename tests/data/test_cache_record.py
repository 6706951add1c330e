import json

from koa_lightning.data.cache_record import Record


def test_rows_that_follow_are_appended_and_written_flat():
    record = Record({0: "cut off"}, ["a" * 32], [(2, 3)], [], [0])
    record.add(Record({1: "empty"}, ["b" * 32], [(4, 5)], [1], []))
    assert json.loads(record.to_json()) == {
        "unreadable": {"0": "cut off", "1": "empty"}, "pixels": "a" * 32 + "b" * 32, "shapes": [2, 3, 4, 5],
        "repaired": [1], "films": [0],
    }  # fmt: skip
