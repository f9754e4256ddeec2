"""Skips are loud: listed at the end of the run, and with CI=true they fail it.

Loaded by `make test` as `-p tests.skips`. With several worker processes each of them collects every module: what it
skipped whole is handed to the one that reports.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

REASONS = pytest.StashKey[list[tuple[str, str]]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[REASONS] = []
    config.pluginmanager.register(_Recorder(config), "pvforecast-skips")


class _Recorder:
    def __init__(self, config: pytest.Config) -> None:
        self._skipped = config.stash[REASONS]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            self._skipped.append((report.nodeid, _reason(report.longrepr)))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:  # a whole module, at import
            self._skipped.append((report.nodeid, _reason(report.longrepr)))

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        modules = getattr(node, "workeroutput", {}).get("skipped modules", [])
        self._skipped.extend(entry for entry in map(tuple, modules) if entry not in self._skipped)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        modules = [entry for entry in session.config.stash[REASONS] if "::" not in entry[0]]
        session.config.workeroutput["skipped modules"] = modules
        return
    if session.config.stash[REASONS] and _in_ci() and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    skipped = config.stash[REASONS]
    if not skipped:
        return
    terminalreporter.section(f"{len(skipped)} NOT TESTED", red=True, bold=True)
    for reason in sorted({reason for _, reason in skipped}):
        tests = [test for test, why in skipped if why == reason]
        terminalreporter.line(f"{reason} ({len(tests)})")
        for test in tests:
            terminalreporter.line(f"    {test}")
    if _in_ci():
        terminalreporter.line("CI=true: a skipped test is a failure", red=True)


def _reason(longrepr: object) -> str:
    if isinstance(longrepr, tuple):  # (file, line, reason) of a skip
        return str(longrepr[2]).removeprefix("Skipped: ")
    return str(longrepr)


def _in_ci() -> bool:
    return os.environ.get("CI", "").lower() in {"1", "true"}
