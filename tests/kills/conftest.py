import pytest


@pytest.fixture(autouse=True)
def new_stores_are_copies() -> None:
    """Here they are made, each of them: what ends their making is what is looked at."""
