"""Lists of steps: what is left out, what a step sees, and what is done again."""

from dataclasses import dataclass

import pytest

from flow.cells.platform_file import read_platform
from flow.run.context import Run
from flow.run.options import RunOptions
from flow.run.steps import Step, run_steps
from tests.flow.support import adder


@dataclass(frozen=True)
class Number:
    value: int


def step(name, value, **more):
    """A step with a result of `value`, plus those that it needs and takes."""

    def work(_, results):
        seen = [*more.get("needs", ()), *more.get("takes", ())]
        return Number(value + sum(results[one].value for one in seen if one in results))

    return Step(name=name, result=Number, work=work, **more)


def done(folder, *steps, **options):
    run = Run(adder(), read_platform("generic"), RunOptions(**options), folder, folder=folder)
    found = run_steps(run, steps)
    return {one.name: found.results[one].value for one in steps if one in found.results}, found


def test_results_are_handed_on_and_unwanted_steps_left_out(tmp_path):
    first = step("first", 1)
    left_out = step("left out", 10, wanted=lambda run: run.options.prove)
    after_it = step("after it", 100, needs=(first, left_out))
    last = step("last", 1000, needs=(first,), takes=(left_out,))
    steps = (first, left_out, after_it, last)
    values, found = done(tmp_path, *steps)
    assert values == {"first": 1, "last": 1001}
    assert found.results.get(left_out) is None
    assert found.worked == ["first", "last"] == list(found.seconds)
    values, found = done(tmp_path, *steps, prove=True)
    assert values == {"first": 1, "left out": 10, "after it": 111, "last": 1011}
    # What comes after a new step is done again.
    assert found.worked == ["left out", "after it", "last"]
    assert done(tmp_path, *steps, prove=True)[1].worked == []


def test_a_step_sees_only_what_it_named(tmp_path):
    first = step("first", 1)
    curious = Step(name="curious", result=Number, work=lambda _, results: results[first])
    with pytest.raises(KeyError, match="first"):
        done(tmp_path, first, curious)


def test_a_step_that_is_not_kept_is_done_every_time(tmp_path):
    calls = []

    def work(*_):
        calls.append(1)
        return Number(len(calls))

    steps = (Step(name="own", result=Number, work=work, kept=False), step("next", 5))
    assert done(tmp_path, *steps)[1].worked == ["next"]
    values, found = done(tmp_path, *steps)
    assert values == {"own": 2, "next": 5} and found.worked == []
    assert list(found.seconds) == ["next"]


def test_a_step_may_depend_on_files_in_place_of_steps(tmp_path):
    file = tmp_path / "file"
    file.write_text("a")

    def steps(value):
        return (
            step("first", 1, inputs=lambda *_: value),
            step("aside", 2, depends_on=lambda _: [file]),
            step("last", 3),
        )

    assert done(tmp_path, *steps(0))[1].worked == ["first", "aside", "last"]
    assert done(tmp_path, *steps(1))[1].worked == ["first", "last"]
    file.write_text("b")
    assert done(tmp_path, *steps(1))[1].worked == ["aside"]
