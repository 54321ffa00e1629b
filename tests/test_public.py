import pytest

import nas


@pytest.mark.parametrize("name", nas.__all__)
def test_a_public_name_comes_from_the_module_that_defines_it(name):
    assert getattr(nas, name).__module__ == nas._HOMES[name]
