"""What is drawn of a study, where there is little to draw."""

import optuna
import pytest
from optuna.distributions import FloatDistribution

from fkal.tuning.figures import _write_importances


@pytest.mark.parametrize(("apart", "written"), [(1e-16, []), (0.1, ["importances.csv", "importances.png"])])
def test_trials_that_hardly_differ_have_no_importances_and_end_no_study(tmp_path, apart, written):
    study = optuna.create_study()
    for value, lr in ((0.34, 0.1), (0.34 + apart, 0.2)):
        study.add_trial(
            optuna.trial.create_trial(
                params={"lr": lr, "decay": lr / 2},
                distributions={name: FloatDistribution(0.0, 1.0) for name in ("lr", "decay")},
                value=value,
            )
        )
    _write_importances(tmp_path, study, None, "aubc")
    assert sorted(path.name for path in tmp_path.iterdir()) == written
