"""How dear each test is, as measured, and the three tiers that follow from it.

`tests/costs.tsv` has the processor seconds of every test that takes more than `SLOW`: those are marked `slow`. One that
takes more than `LONG` is marked `long`, unless it is one of the `ESSENTIAL`, which are run at every change whatever
they cost. Tests that have not been measured yet keep the marks that they are written with.

    make test-fast    not slow                   two minutes
    make test         not long                   ten minutes
    make test-all     everything, every night

`pytest --costs FILE` measures; `python -m tests.tiers FILE ...` makes `tests/costs.tsv` from one run or several.
"""

import functools
import json
import os
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

FILE = Path(__file__).with_name("costs.tsv")
SLOW, LONG = 0.1, 1.0

# The exact case that each part of the library is built on, where all of its tests are dear; the main jobs; and the
# faults that are hardest to see.
ESSENTIAL = frozenset(
    f"tests/{test}"
    for test in (
        "core/test_smc_laws.py::test_unbiased_against_the_kalman_filter[3-0.7]",
        "core/test_smc_laws.py::test_stderr_squared_is_the_variance_under_the_other_schemes_too[systematic-0.5]",
        "core/test_layout.py::test_eight_devices_give_what_one_gives",
        "core/test_place.py::test_weights_and_keys_stay_on_the_host",
        "core/test_precision.py::test_on_a_gpu_products_are_exact_unless_a_person_says_otherwise[a filter]",
        "ssm/test_laws.py::test_five_dimensions_with_gaps[Linear-bootstrap]",
        "ssm/test_laws.py::test_the_theta_logistic_model",
        "inference/test_chains.py::test_pmmh_draws_from_the_posterior",
        "inference/test_chains.py::test_particle_gibbs_draws_from_the_posterior[kernel1-backward]",
        "inference/test_smc2.py::test_evidence_is_unbiased",
        "learn/test_fitting.py::test_the_local_gradient_is_nought_at_the_best_proposal",
        "samplers/test_laws.py::test_standard_and_waste_free_on_linear_regression[1]",
        "samplers/test_laws.py::test_logistic_regression",
        "samplers/test_laws.py::test_ising_with_a_kernel_of_ones_own",
        "samplers/test_run.py::test_twenty_dimensions_with_what_a_pilot_found",
        "samplers/test_posterior.py::test_evidence_and_moments",
        "text/engines/test_vllm_v2.py::test_the_texts_of_transformers_by_rewritten_requests",
        "diffusion/test_gaussian_laws.py::test_evidence_and_posterior",
        "diffusion/test_mixture_laws.py::test_every_twist_and_guidance_have_the_same_target",
        "diffusion/test_conditional.py::test_the_target_is_invariant[backward sampling]",
        "text/test_engine_laws.py::test_the_enumerated_law_is_one[vllm]",
        "text/engines/test_vllm.py::test_512_particles_share_128_places",
        "text/test_vllm_laws.py::test_run_ahead_until_the_weights_part[a constraint]",
        "text/engines/test_deaths.py::test_vllm[tokens]",
        "text/rewards/test_vllm_both.py::test_they_steer_to_the_texts_and_evidence_of_transformers[lines-one problem]",
        "text/engines/test_vllm_decoding.py::test_it_is_taken_and_changes_nothing[1]",
        "text/engines/test_vllm_decoding.py::test_a_text_ends_at_the_longest_length",
        "text/engines/test_vllm.py::test_too_little_memory_changes_no_text",
        "text/engines/test_vllm.py::test_copies_take_over_requests_that_nobody_needs",
        "text/engines/test_vllm_faults.py::test_any_thread_steps_the_engine_with_as_many_threads_of_torch",
        "text/engines/test_vllm_faults.py::test_an_engine_that_dies_is_built_again_until_it_dies_for_good",
        "scaling/evaluation/test_actors.py::test_an_actor_that_is_killed_costs_its_problem_a_second_run_and_nothing_else",
        "scaling/evaluation/test_run.py::test_a_kill_loses_no_finished_problem",
        "scaling/test_best_first.py::test_with_a_perfect_value_it_finds_the_best_text_that_can_be_reached[tight]",
        "serve/test_commands.py::test_a_remote_engine",
        "serve/test_death.py::test_vllm_dies_once_too_often",
        "serve/test_load.py::test_every_client_gets_its_own_answer",
        "serve/test_signals.py::test_ctrl_c[2]",
        "serve/test_vllm.py::test_sixty_four_clients_of_the_particle_filter_of_whom_some_leave_and_some_talk_nonsense",
        "test_api_surface.py::test_public_api_is_the_one_on_file",
        "test_cli.py::test_demo_writes_table_figure_and_trace",
        "test_docs.py::test_example_runs[digits.py]",
        "test_docs.py::test_on_its_own[README]",
        "test_docs.py::test_readme_code_runs[4]",
    )
)


@functools.cache
def measured() -> dict[str, float]:
    """Processor seconds by test, of those that cost more than `SLOW`."""
    rows = (line.rsplit("\t", 1) for line in FILE.read_text().splitlines())
    return {test: float(seconds) for test, seconds in rows}


def dear_files_first(items: list[pytest.Item]) -> None:
    """Sort by file, the dearest first: processes that share the files out then end at about the same time."""
    costs, files = measured(), defaultdict(float)
    for item in items:
        files[item.path] += costs.get(item.nodeid, SLOW / 5)
    items.sort(key=lambda item: -files[item.path])


def mark(items: list[pytest.Item]) -> None:
    """Add `slow` and `long` to the tests that are."""
    costs = measured()
    for item in items:
        seconds = costs.get(item.nodeid, 0.0)
        if (seconds > LONG and item.nodeid not in ESSENTIAL) or item.get_closest_marker("long"):
            item.add_marker(pytest.mark.long)
            item.add_marker(pytest.mark.slow)
        elif seconds > SLOW:
            item.add_marker(pytest.mark.slow)


class Meter:
    """Writes what each test costs, with what its fixtures and its finished children do."""

    def __init__(self, path: Path):
        self._path = path

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        before = sum(os.times()[:4])
        result = yield
        row = json.dumps([item.nodeid, sum(os.times()[:4]) - before])
        with self._path.open("a") as file:  # one write of one line: workers append to the same file
            file.write(row + "\n")
        return result


def main(paths: list[Path]) -> None:
    """Make `tests/costs.tsv` from what `pytest --costs` wrote; tests that were in none of the runs are forgotten.

    A test costs what it did in the dearest run: which test of a file compiles what they share depends on the choice.
    """
    costs = defaultdict(float)
    for line in (line for path in paths for line in path.read_text().splitlines()):
        test, seconds = json.loads(line)
        costs[test] = max(costs[test], seconds)
    dear = sorted((test, seconds) for test, seconds in costs.items() if seconds > SLOW)
    FILE.write_text("".join(f"{test}\t{seconds:.2f}\n" for test, seconds in dear))
    total = sum(costs.values())
    brief = sum(s for test, s in costs.items() if s <= LONG or test in ESSENTIAL)
    print(f"{len(costs)} tests, {total:.0f} s of processor time; {brief:.0f} s of them not long")
    if strangers := ESSENTIAL - set(costs):
        print("essential tests that were not run:", *sorted(strangers), sep="\n")


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]])
