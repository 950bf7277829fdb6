"""The suite fails on a skip, unless it is opt-in or names a missing data file."""

import shutil
import subprocess
import sys
from pathlib import Path

# Inputs of the tests below, run as suites of their own: their skips are what is tested.
ALLOWED = """
import pytest

def test_passes():
    pass

@pytest.mark.gpu
def test_gpu():
    assert False

def test_data():
    pytest.skip("missing data file: latentqa/eval/qa.json")
"""
REFUSED = """
import pytest

def test_lazy():
    pytest.skip("slow")

@pytest.mark.model
@pytest.mark.skip(reason="later")
def test_model():
    pass

@pytest.mark.xfail(reason="known")
def test_known():
    assert False
"""


def run_suite(folder: Path, modules: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    """Run pytest on test modules under a copy of this suite's conftest."""
    shutil.copy(Path(__file__).with_name("conftest.py"), folder)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    gpu: x\n    network: x\n    model: x\n")
    for name, code in modules.items():
        (folder / name).write_text(code)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder)


def test_opt_in_and_missing_data_may_skip(tmp_path: Path) -> None:
    finished = run_suite(tmp_path, {"test_allowed.py": ALLOWED})
    assert finished.returncode == 0, finished.stdout
    assert "1 passed, 2 skipped" in finished.stdout


def test_opted_in_tests_run(tmp_path: Path) -> None:
    finished = run_suite(tmp_path, {"test_allowed.py": ALLOWED}, "--gpu")
    assert finished.returncode == 1
    assert "1 failed, 1 passed, 1 skipped" in finished.stdout


def test_every_other_skip_fails_the_run_and_is_named(tmp_path: Path) -> None:
    absent = "import pytest\npytest.importorskip('a_package_that_nobody_has')\n"
    finished = run_suite(
        tmp_path, {"test_allowed.py": ALLOWED, "test_refused.py": REFUSED, "test_absent.py": absent}
    )
    assert finished.returncode == 1
    refused = finished.stdout.split("skips that are not allowed")[1]
    for name in ("test_lazy: slow", "test_model: later", "test_known: ", "test_absent.py: "):
        assert name in refused
    assert "test_gpu" not in refused and "test_data" not in refused
