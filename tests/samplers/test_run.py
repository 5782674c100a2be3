"""`sample`: arguments that are not allowed."""

import pytest

from smcgen.errors import InvalidArgument, UnknownName
from smcgen.samplers import sample
from tests.samplers import models
from tests.samplers.models import LINEAR
from tests.samplers.test_paths import DATA


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_particles": 0}, "n_particles=0"),
        ({"kernel": "gibbs"}, "'hmc', 'mala', 'nuts', 'random_walk'"),
        ({"ladder": [0.5]}, "ladder="),
        ({"moves": 0}, "moves=0"),
        ({"waste_free": 7}, "divides n_particles=100"),
        ({"waste_free": 10, "moves": "auto"}, "moves="),
        ({"waste_free": 10, "persistent": True}, "persistent=True"),
        ({"persistent": True, "ess_threshold": 0.5}, "ess_threshold=0.5"),
        ({"persistent": True, "unbiased": True}, "unbiased=True"),
        ({"n_runs": 0}, "n_runs=0"),
        ({"n_runs": 2, "checkpoint": "file"}, "checkpoint="),
        ({"on_error": "ignore"}, "on_error="),
    ],
)
def test_arguments_that_are_not_allowed(options, message, unchecked):
    with pytest.raises(InvalidArgument, match=message):
        sample(LINEAR, 0, **{"n_particles": 100, **options})


def test_paths_and_kernels_that_do_not_fit(unchecked):
    with pytest.raises(InvalidArgument, match="path='function'"):
        sample(lambda x: x)
    with pytest.raises(InvalidArgument, match="persistent=True"):
        sample(DATA, persistent=True)
    with pytest.raises(InvalidArgument, match="HMC for x of type int32"):
        sample(models.ising(0.3), n_particles=4, ladder=[1.0])
    with pytest.raises(UnknownName):
        sample(LINEAR, ladder="kl")
