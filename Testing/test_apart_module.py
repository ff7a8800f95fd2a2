"""The other tests of the module, and of the stand-in for Slicer, apart."""

import pytest

from Testing.apart import check_apart, module_tests


@pytest.mark.timeout(1200)
def test_the_modules_other_tests_pass(tmp_path, request):
    check_apart(module_tests(panel=False), tmp_path, request)
