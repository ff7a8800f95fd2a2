"""The panel's tests, apart."""

import pytest

from Testing.apart import check_apart, module_tests


@pytest.mark.timeout(1200)
def test_the_panels_tests_pass(tmp_path, request):
    check_apart(module_tests(panel=True), tmp_path, request)
