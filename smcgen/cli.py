"""The command line: `smcgen demo`, `smcgen steer`, `smcgen eval`, `smcgen serve`."""

import json
import sys
from contextlib import nullcontext
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from smcgen._version import __version__
from smcgen.cli_eval import eval_command
from smcgen.cli_serve import (
    ENGINE_ARGS_HELP,
    ENGINE_HELP,
    REWARD_ARGS_HELP,
    REWARD_HELP,
    REWARD_KIND_HELP,
    as_typed,
    serve_command,
)
from smcgen.errors import Interrupted, InvalidArgument, SmcgenError

app = typer.Typer(
    help="Steer generative models with particles.", no_args_is_help=True, add_completion=False
)


def _version(wanted: bool | None) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool | None,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = None,
) -> None:
    """Steer generative models with particles."""


class Demo(StrEnum):
    """What `smcgen demo` shows."""

    TEXT = "text"
    DIGITS = "digits"
    ALL = "all"


@app.command()
def demo(
    what: Annotated[Demo, typer.Argument(help="Which half.")] = Demo.ALL,
    problems: Annotated[int, typer.Option(help="Text: held-out problems.", min=1)] = 100,
    repeats: Annotated[int, typer.Option(help="Digits: runs of each class.", min=1)] = 5,
    n: Annotated[str, typer.Option(help="Samples, comma-separated.")] = "1,4,16",
    seed: int = 0,
    reward: Annotated[
        str, typer.Option(help="Text: process reward, a folder name in models/.")
    ] = "tape-prm-good",
    out: Annotated[Path, typer.Option(help="Where tables and figures go.")] = Path("runs/demo"),
) -> None:
    """Particles against best-of-N, on arithmetic and on pictures of digits, with models that ship with smcgen."""
    with _errors():
        ns = _numbers("n", n)
        if what is not Demo.DIGITS:
            from smcgen.demo.run import demo as solve_problems

            solve_problems(problems, ns, seed, out, reward)
        if what is not Demo.TEXT:
            from smcgen.demo.digits import demo as draw_digits

            draw_digits(ns, seed, out, repeats)


@app.command()
def steer(
    model: Annotated[str, typer.Option(help="Causal language model: a path or hub name.")],
    prompt: Annotated[str | None, typer.Option(help="One prompt; or use --input.")] = None,
    input: Annotated[
        Path | None, typer.Option(help='JSONL with a "prompt" in each line ("-": standard input).')
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="JSONL to write; default: standard output.")
    ] = None,
    reward: Annotated[str | None, typer.Option(help=REWARD_HELP)] = None,
    reward_kind: Annotated[str, typer.Option(help=REWARD_KIND_HELP)] = "process",
    reward_args: Annotated[str | None, typer.Option(help=REWARD_ARGS_HELP)] = None,
    n_particles: Annotated[int, typer.Option("--n-particles", "-n")] = 16,
    strength: Annotated[
        float, typer.Option(help="lambda; the target is p(x) psi(x)^lambda.")
    ] = 1.0,
    step: Annotated[
        str, typer.Option(help=r"Delimiter of a step (\n is a newline), or a number of tokens.")
    ] = r"\n",
    max_steps: int | None = None,
    max_tokens: int = 1024,
    temperature: float = 1.0,
    top_p: float = 1.0,
    top_k: int | None = None,
    answer: Annotated[
        str, typer.Option(help="number, boxed, line, or a regex with one group.")
    ] = "number",
    seed: int = 0,
    batch: Annotated[int, typer.Option(help="Prompts steered together.", min=1)] = 16,
    engine: Annotated[str, typer.Option(help=ENGINE_HELP)] = "transformers",
    engine_args: Annotated[str | None, typer.Option(help=ENGINE_ARGS_HELP)] = None,
    trace: Annotated[bool, typer.Option(help="Print how each step was resampled.")] = False,
) -> None:
    """Steer any model by any process reward; JSONL in, JSONL out, or one prompt."""
    import jax
    import jax.numpy as jnp

    from smcgen.core.status import Status
    from smcgen.scaling.evaluation.records import json_line
    from smcgen.text._reward_names import named_reward
    from smcgen.text.engines.names import load_engine
    from smcgen.text.steer import steer as run

    with _errors():
        lines = _prompts(prompt, input)
        writer = load_engine(engine, model, engine_args)
        rows, encoded = [row for _, row in lines], _encoded(writer, lines)
        options: dict[str, Any] = {
            "model": writer,
            "reward": named_reward(reward_kind, reward, reward_args),
            "n_particles": n_particles,
            "strength": strength,
            "step": as_typed(step),
            "max_steps": max_steps,
            "max_tokens": max_tokens,
            "temperature": temperature,
            "top_p": top_p,
            "top_k": top_k,
            "answer": answer,
            "on_error": "return",
        }
        done = 0
        with output.open("w", encoding="utf-8") if output else nullcontext(sys.stdout) as sink:
            try:
                for start in range(0, len(rows), batch):
                    some = rows[start : start + batch]
                    # a prompt's key is its line's: results do not depend on how lines are batched
                    keys = jax.vmap(jax.random.fold_in, (None, 0))(
                        jax.random.key(seed), jnp.arange(start, start + len(some))
                    )
                    prompts = encoded[start : start + len(some)]
                    results = run(prompts, key=keys, progress=sys.stderr.isatty(), **options)
                    if any(result.status is Status.INTERRUPTED for result in results):
                        raise KeyboardInterrupt
                    for row, result in zip(some, results, strict=True):
                        sink.write(json_line(row | _record(result)))
                        sink.flush()
                        done += 1
                        if trace:
                            typer.echo(result.trace(), err=True)
            except KeyboardInterrupt as interrupt:
                raise Interrupted(f"{done} of {len(rows)} prompts are done") from interrupt


@app.command("serve")
@wraps(serve_command)
def serve(**options: Any) -> None:
    """An OpenAI-compatible server whose answers are steered."""
    with _errors():
        serve_command(**options)


@app.command("eval")
@wraps(eval_command)
def eval_(**options: Any) -> None:
    """Compare strategies on problems with known answers, at equal counted cost, with error bars."""
    with _errors():
        eval_command(**options)


def _record(result: Any) -> dict[str, Any]:
    return {
        "text": result.best,
        "answer": result.answer,
        "answers": dict(result.answers()),
        "log_evidence": result.log_evidence,
        "log_evidence_stderr": result.log_evidence_stderr,
        "ess": result.ess,
        "status": result.status.name,
        "texts": result.texts,
        "weights": result.weights.tolist(),
        "scores": result.scores.tolist(),
    }


def _prompts(prompt: str | None, path: Path | None) -> list[tuple[str, dict[str, Any]]]:
    """Objects with a "prompt", each with where it stands."""
    if (prompt is None) == (path is None):
        raise SmcgenError("give either --prompt or --input")
    if prompt is not None:
        return [("", {"prompt": prompt.replace(r"\n", "\n")})]
    try:
        text = sys.stdin.read() if str(path) == "-" else Path(str(path)).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise SmcgenError(f"{path}: not UTF-8 ({error})") from error
    rows = []
    for number, line in enumerate(text.split("\n"), 1):  # JSON may hold the other ends of lines
        where = f"{path}, line {number}: "
        try:
            row = json.loads(line) if line.strip() else None
        except json.JSONDecodeError as error:
            raise SmcgenError(f"{where}not JSON ({error})") from error
        if row is not None:
            if not isinstance(row, dict) or "prompt" not in row:
                raise SmcgenError(f'{where}expected an object with a "prompt"')
            rows.append((where, row))
    return rows


def _encoded(engine: Any, lines: list[tuple[str, dict[str, Any]]]) -> list[Any]:
    """Each line's prompt as the engine reads it: what is wrong with one is said before any is steered."""
    from smcgen.text.model import TextModel
    from smcgen.text.prompts import encode

    prompts = []
    for where, row in lines:
        try:
            prompts.append(encode(engine.tokenizer, row["prompt"]))
            TextModel(engine, prompts[-1])  # it fits the context
        except InvalidArgument as error:
            raise SmcgenError(f"{where}{error}") from error
    return prompts


def _numbers(name: str, text: str) -> tuple[int, ...]:
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 1:
        raise SmcgenError(
            f"--{name}={text!r} is not allowed: expected numbers >= 1, such as 1,4,16"
        )
    return numbers


class _errors:
    """smcgen's own errors, and Ctrl-C, as one line without a traceback."""

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if isinstance(error, SmcgenError | OSError):
            typer.secho(f"smcgen: {error}", err=True, fg=typer.colors.RED)
            raise typer.Exit(2) from error
        if isinstance(error, KeyboardInterrupt):
            done = f": {error}" if isinstance(error, Interrupted) else ""
            typer.secho(f"smcgen: interrupted{done}", err=True, fg=typer.colors.RED)
            raise typer.Exit(130) from error


if __name__ == "__main__":
    app()
