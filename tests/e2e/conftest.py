"""The long tests first, so that no worker is left alone with one at the end."""

import pytest

_LONG = ("test_torch_job", "test_no_false_alarm", "test_kills", "test_figures")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the order but for that."""
    items.sort(key=lambda item: not item.path.name.startswith(_LONG))
