from covidmm.errors import did_you_mean


def test_the_nearest_name_is_offered_where_one_is_near():
    assert did_you_mean("trian_cfg", {"train_cfg", "val_cfg"}) == ": did you mean 'train_cfg'?"
    assert did_you_mean("xyz", {"train_cfg"}) == ""
