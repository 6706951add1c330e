from koa_lightning.config import recorded_overrides, renamed

NOW = ["koa_lightning.losses.focal.Focal", "mine.Loss"]


def test_a_loss_of_0_1_is_the_one_that_configs_name_now():
    assert renamed.current("koa_lightning.losses.Focal", NOW) == NOW[0]
    assert renamed.current(NOW[0], NOW) == NOW[0]
    for other in ("koa_lightning.losses.Unknown", "os.system", None, ["os.system"]):
        assert renamed.current(other, NOW) == other


def test_a_run_folder_of_0_1_may_name_it():
    assert renamed.aliases([*NOW, None, "koa_lightning.losses.a.b.C"]) == ["koa_lightning.losses.Focal"]
    assert {"koa_lightning.losses.Focal", "koa_lightning.losses.EMD"} <= recorded_overrides.installed_targets()
