"""What `smcgen eval` takes from the command line."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from smcgen.cli_serve import ENGINE_ARGS_HELP, ENGINE_HELP, as_typed
from smcgen.errors import Interrupted, InvalidArgument, UnknownName


def eval_command(
    task: Annotated[
        Path, typer.Option(help="JSONL of problems: MATH500, AIME, GSM8K, or prompt and answer.")
    ],
    model: Annotated[str, typer.Option(help="Causal language model: a path or hub name.")],
    out: Annotated[
        Path, typer.Option(help="Folder for records, tables, figure; resumed if there.")
    ],
    strategy: Annotated[
        str, typer.Option(help="Names, comma-separated.")
    ] = "best-of-n,particle-filter",
    budget: Annotated[
        str, typer.Option(help="Texts per problem, comma-separated, or limits: tokens=512.")
    ] = "1,4,16",
    seeds: Annotated[str, typer.Option(help="Comma-separated, or a range: 0-4.")] = "0",
    reward: Annotated[
        list[str] | None, typer.Option(help="Process reward: path or hub name; repeat to compare.")
    ] = None,
    degrade: Annotated[
        list[str] | None,
        typer.Option(help="Each reward made worse too: noise=1,bias=0,false_positives=0.1."),
    ] = None,
    template: Annotated[
        str | None, typer.Option(help="boxed, steps, chat, or text with {problem} in it.")
    ] = None,
    where: Annotated[
        list[str] | None, typer.Option(help="Only problems with this field: level=5.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="The first so many problems.", min=1)] = None,
    answer: Annotated[
        str, typer.Option(help="boxed, number, line, or a regex with one group.")
    ] = "boxed",
    equivalent: Annotated[
        str, typer.Option(help="When answers are the same: exact, string, numeric, math.")
    ] = "numeric",
    step: Annotated[str, typer.Option(help=r"As in `steer`.")] = r"\n",
    max_steps: int | None = None,
    max_tokens: int = 1024,
    temperature: float = 1.0,
    top_p: float = 1.0,
    top_k: int | None = None,
    strategy_args: Annotated[
        str | None, typer.Option(help="""JSON: '{"particle-filter": {"ess_threshold": 1.0}}'.""")
    ] = None,
    engine: Annotated[str, typer.Option(help=ENGINE_HELP)] = "transformers",
    engine_args: Annotated[str | None, typer.Option(help=ENGINE_ARGS_HELP)] = None,
    reward_args: Annotated[
        str | None, typer.Option(help="""The rewards' other arguments as JSON.""")
    ] = None,
    reward_timeout: Annotated[
        float | None, typer.Option(help="Seconds that one call of a reward may take.")
    ] = None,
    batch: Annotated[int | None, typer.Option(help="Problems in one engine call.", min=1)] = None,
    retries: Annotated[int, typer.Option(help="Of a problem that fails.", min=0)] = 1,
    texts: Annotated[bool, typer.Option(help="Record all texts, or the chosen one.")] = True,
    cost: Annotated[
        str, typer.Option(help="Cost in the figure: tokens, or tokens_generated, seconds, ...")
    ] = "tokens",
    ray: Annotated[
        str | None, typer.Option(help='Ray cluster to spread problems over; "local" starts one.')
    ] = None,
    actors: Annotated[int | None, typer.Option(help="Ray actors, an engine each.", min=1)] = None,
    gpus: Annotated[float | None, typer.Option(help="GPUs of each actor.")] = None,
) -> None:
    """Compare strategies on problems with known answers, at equal counted cost, with error bars."""
    from rich.console import Console

    from smcgen.core.cost import Cost
    from smcgen.scaling.evaluation import Later, RayWorkers, Results, evaluate, load_task
    from smcgen.scaling.writing import Writing
    from smcgen.text._arguments import json_object
    from smcgen.text.engines.names import load_engine

    if cost not in (costs := ("tokens", *vars(Cost()))):  # now rather than when all is done
        raise UnknownName("cost", cost, costs)
    problems = load_task(task)
    for bad in problems.bad:
        typer.secho(f"{task}, {bad}", err=True, fg=typer.colors.YELLOW)
    problems = problems.where(**dict(_field(text) for text in where or ()))
    problems = problems if limit is None else problems.first(limit)
    problems = problems if template is None else problems.templated(template.replace(r"\n", "\n"))
    knobs = {text: _numbers("degrade", text) for text in degrade or ()}
    options = json_object("reward_args", reward_args)
    rewards: dict[str, Any] = {}
    for path in reward or ():
        name = Path(path).name
        rewards[name] = Later(_reward, (path, options))
        for text, knob in knobs.items():
            rewards[f"{name} {text}"] = Later(_reward, (path, options, knob))
    try:
        results: Results = evaluate(
            problems,
            _strategies(strategy, json_object("strategy_args", strategy_args, shown=True)),
            Later(load_engine, (engine, model, engine_args)),
            rewards,
            _budgets(budget),
            _seeds(seeds),
            writing=Writing(
                step=as_typed(step),
                max_steps=max_steps,
                max_tokens=max_tokens,
                temperature=temperature,
                top_p=top_p,
                top_k=top_k,
                answer=answer,
                equivalent=equivalent,
            ),
            out=out,
            batch=batch,
            retries=retries,
            reward_timeout=reward_timeout,
            keep_texts=texts,
            progress=sys.stderr.isatty(),
            workers=None if ray is None else RayWorkers(ray, actors, gpus=gpus),
        )
    except KeyboardInterrupt as error:
        raise Interrupted(f"the same command goes on from what is in {out}") from error
    _report(results, out, cost, Console(width=max(Console().width, 132)))  # a table cut is no table


def _report(results: Any, out: Path, cost: str, console: Any) -> None:
    from smcgen.scaling.evaluation import figure, quality_figure, reward_quality, save, summary
    from smcgen.scaling.evaluation.rows import pass_at_1
    from smcgen.scaling.evaluation.tables import power_laws, ratio_table, ratios, table

    rows = summary(results)
    console.print(table(results, rows))
    found, reference = ratios(results)
    if found:
        console.print(ratio_table(found, reference))
    for name, law in power_laws(results).items():
        console.print(f"coverage of {name}: {law}", markup=False, highlight=False)
    quality = reward_quality(results)
    for name, area in quality.items() if len(quality) > 1 else ():
        console.print(f"{name}: AUC {area:.3f}", markup=False, highlight=False)
    written = [*save(results, out, rows), out / "records.jsonl"]
    try:
        figure(results, out / "accuracy.png", cost)
        written.append(out / "accuracy.png")
        if len(quality) > 1 and pass_at_1(results) is not None:
            quality_figure(results, out / "rewards.png")
            written.append(out / "rewards.png")
    except ImportError as error:  # the table is what matters
        console.print(f"no figure: {error}")
    console.print(
        f"written: {', '.join(map(str, written))}", soft_wrap=True, markup=False, highlight=False
    )


def _reward(path: str, options: dict[str, Any], knobs: dict[str, Any] | None = None) -> Any:
    from smcgen.scaling.evaluation import Degraded
    from smcgen.text.rewards import ProcessReward

    try:
        reward = ProcessReward(path, **options)
        return Degraded(reward, **knobs) if knobs else reward
    except TypeError as error:  # an argument that they do not have
        raise InvalidArgument("reward_args or degrade", [options, knobs], str(error)) from error


def _strategies(names: str, options: dict[str, Any]) -> list[Any]:
    from smcgen.scaling.registry import as_strategy

    found = [as_strategy(name.strip()) for name in names.split(",")]
    for name in options:
        if name not in {s.name for s in found}:
            raise InvalidArgument("strategy_args", name, f"one of {names}")
    try:
        return [replace(s, **options.get(s.name, {})) for s in found]
    except TypeError as error:
        raise InvalidArgument("strategy_args", options, str(error)) from error


def _budgets(text: str) -> list[Any]:
    """Numbers of texts, or `tokens=512+reward_calls=64`."""
    from smcgen.scaling.budget import Budget

    def one(part: str) -> Any:
        if "=" not in part:
            return int(part)
        pairs = dict(item.split("=") for item in part.split("+"))
        limits: dict[str, Any] = {
            k: float(v) if k == "seconds" else int(v) for k, v in pairs.items()
        }
        return Budget(**limits)

    try:
        return [one(part.strip()) for part in text.split(",")]
    except (ValueError, TypeError) as error:
        if isinstance(error, InvalidArgument):
            raise
        allowed = "numbers, such as 1,4,16, or limits, such as tokens=512+reward_calls=64"
        raise InvalidArgument("budget", text, allowed) from error


def _seeds(text: str) -> list[int]:
    try:
        if "-" in text:
            first, last = map(int, text.split("-"))
            return list(range(first, last + 1))
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise InvalidArgument("seeds", text, "numbers, such as 0,1,2 or 0-4") from error


def _numbers(name: str, text: str) -> dict[str, Any]:
    try:
        pairs = (part.split("=") for part in text.split(","))
        return {key.strip().replace("-", "_"): float(value) for key, value in pairs}
    except ValueError as error:
        allowed = "knobs, such as noise=1,bias=0,false_positives=0.1"
        raise InvalidArgument(name, text, allowed) from error


def _field(text: str) -> tuple[str, Any]:
    """`level=5` with 5 as JSON has it, else as text."""
    name, found, value = text.partition("=")
    if not found:
        raise InvalidArgument("where", text, "a field and its value, such as level=5")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value
