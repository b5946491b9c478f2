#!/usr/bin/python3
"""Prints where the time of a test run went: test-times.py STEPS JUNIT…

STEPS holds a line for each step, its seconds and its name; JUNIT are files that cargo-nextest wrote.
"""

import pathlib
import sys
import xml.etree.ElementTree as ElementTree

SLOWEST = 20


def main(steps: str, *junit: str) -> None:
    lines = [line.split("\t") for line in pathlib.Path(steps).read_text().splitlines()]
    print("\nseconds  step")
    for seconds, name in lines:
        print(f"{int(seconds):7}  {name}")
    print(f"{sum(int(seconds) for seconds, _ in lines):7}  in all")
    there = [file for file in junit if pathlib.Path(file).exists()]
    if not there:
        return
    tests = []
    print("\nseconds  tests  binary (several tests run at once)")
    for suite in (one for file in there for one in ElementTree.parse(file).getroot().iter("testsuite")):
        binary = suite.get("name", "?")
        cases = [(float(case.get("time", 0)), case.get("name", "?")) for case in suite.iter("testcase")]
        print(f"{sum(seconds for seconds, _ in cases):7.0f}  {len(cases):5}  {binary}")
        tests += [(seconds, f"{binary} {name}") for seconds, name in cases]
    print(f"\nseconds  the {SLOWEST} slowest tests")
    for seconds, name in sorted(tests, reverse=True)[:SLOWEST]:
        print(f"{seconds:7.1f}  {name}")


if __name__ == "__main__":
    main(*sys.argv[1:])
