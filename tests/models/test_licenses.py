"""Licenses of weights: the free ones pass, others have to be accepted by name."""

import pytest

from fkal.errors import ConfigError
from fkal.models.licenses import NOT_STATED, is_free, refuse_unaccepted


@pytest.mark.parametrize("name", ["apache-2.0", "Apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0", NOT_STATED])
def test_free_licenses_need_no_word(name):
    assert is_free(name)
    refuse_unaccepted("timm:some", name, None)


@pytest.mark.parametrize("name", ["dinov3-license", "cc-by-nc-4.0", "cc-by-sa-4.0", "seer-license", "apple-amlr"])
def test_other_licenses_are_refused_with_the_option_that_accepts_them(name):
    with pytest.raises(ConfigError, match=f"--accept-license {name}"):
        refuse_unaccepted("timm:some", name, None)
    with pytest.raises(ConfigError, match="another one"):
        refuse_unaccepted("timm:some", name, "mit")
    refuse_unaccepted("timm:some", name, name.upper())
