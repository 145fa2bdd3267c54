import pytest

from fkal.acquisition.settings import AcquisitionConfig
from fkal.core.kernels import R_ZG
from fkal.core.labels import PSEUDO_LABELS


@pytest.mark.parametrize("combine", list(R_ZG))
@pytest.mark.parametrize("pseudo_label", list(PSEUDO_LABELS))
def test_every_reading_and_estimator_can_be_set(combine, pseudo_label):
    config = AcquisitionConfig(combine=combine, pseudo_label=pseudo_label, taps=("conv2",))
    assert (config.combine, config.pseudo_label, config.taps) == (combine, pseudo_label, ("conv2",))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"budget": 0}, "budget = 0; give at least 1"),
        ({"rounds": 0}, "rounds = 0; give at least 1"),
        ({"batch_size": -1}, "batch_size = -1; give at least 1"),
        ({"taps": ()}, r"taps = \[\]; name at least one layer, each once"),
        ({"taps": ("conv1", "conv1")}, r"taps = \['conv1', 'conv1'\]; name at least one layer, each once"),
        ({"combine": "mean"}, "combine = 'mean'; give one of product, product_of_sums, sum"),
        ({"pseudo_label": "best"}, "pseudo_label = 'best'; give one of joint, joint_shift, joint_shift_grid, joint_zg"),
        (
            {"matching": "cover"},
            "matching = 'cover'; did you mean 'coverage'\\? give one of k_center, coverage, transport, ecov, noisy_or, "
            "wcov, wcov_zg, tail_first",
        ),
        ({"whitening": "yes"}, "whitening = 'yes'; give one of none, shrunk"),
        ({"samples": 0}, "samples = 0; give at least 1"),
        ({"ensemble": 0}, "ensemble = 0; give at least 1"),
        ({"view_degrees": -1.0}, "view_degrees = -1.0; give 0 to 180"),
        ({"view_degrees": 181.0}, "view_degrees = 181.0; give 0 to 180"),
        ({"view_degrees": float("nan")}, "view_degrees = nan; give 0 to 180"),
        ({"parts": 0}, "parts = 0; give 1 to 65,536, or null for the whole pool at once"),
        ({"parts": 65_537}, "parts = 65537; give 1 to 65,536"),
        ({"view_noise": -0.01}, "view_noise = -0.01; give 0 to 1e.06"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_way_out(setting, message):
    with pytest.raises(ValueError, match=message):
        AcquisitionConfig(**setting)


def test_the_defaults_are_the_papers_for_mnist():
    config = AcquisitionConfig()
    assert (config.budget, config.rounds, config.samples, config.ensemble) == (125, 10, 128, 1)
    assert (config.view_degrees, config.view_noise) == (5.0, 0.01)
