"""`pytest -m gpu`, each outcome recorded as it comes."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.gpu.packages import ROOT
from benchmarks.gpu.stage import Bench


class Recorder:
    """Told by pytest of every test."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Of a test the call, or what kept it from being called or cleared away."""
        if report.when == "call" or report.outcome != "passed":
            result = {"outcome": report.outcome, "when": report.when, "seconds": round(report.duration, 2)}
            if report.outcome != "passed":
                result["why"] = str(report.longrepr)[-1500:]
            self.bench.record(report.nodeid, result)


def run(bench: Bench) -> None:
    """A test that fails is a result like any other; that none was found is a failure of the stage."""
    # warnings are shown, not errors: a library there may be newer than those that the tests were written with
    options = ["-m", "gpu", "-q", "-p", "no:cacheprovider", "-W", "default"]
    code = pytest.main([*options, str(ROOT / "tests" / "gpu")], plugins=[Recorder(bench)])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise SystemExit(f"pytest ended with {code!r}")
