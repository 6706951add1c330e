from koa_lightning.reporting.report import caveats
from koa_lightning.reporting.report.checklists import CLAIM, TRIPOD_AI, Item, fill

TRIPOD_NUMBERS = (
    "1 2 3a 3b 3c 4 5a 5b 6a 6b 6c 7 8a 8b 8c 9a 9b 9c 10 11 12a 12b 12c 12d 12e 12f 12g 13 14 15 16 17 18a 18b 18c "
    "18d 18e 18f 19 20a 20b 20c 21 22 23a 23b 24 25 26 27a 27b 27c"
)


def test_every_item_is_there_once():
    assert [item.number for item in CLAIM] == [str(number) for number in range(1, 43)]
    assert [item.number for item in TRIPOD_AI] == TRIPOD_NUMBERS.split()


def test_what_the_run_knows_and_what_is_left():
    items = (Item("1", "a", ("x", "y")), Item("2", "b", ("x",), "more"), Item("3", "c", ("z",), "all"), Item("4", "d"))
    answers = fill(items, {"x": "It is so.", "y": "And so."})
    assert [answer.status for answer in answers] == ["run", "in part", "author", "author"]
    assert answers[0].known == "It is so. And so."
    assert [answer.author for answer in answers] == ["", "more", "all", "to be written"]


def test_every_key_of_an_item_is_one_that_can_be_known(full):
    said = set(caveats.phrases(full))
    asked = {key for item in (*CLAIM, *TRIPOD_AI) for key in item.known}
    assert asked - said == {"subset", "readers", "clusters"} - said
    assert all(words.strip() for words in caveats.phrases(full).values())
