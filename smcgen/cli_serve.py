"""What `smcgen serve` takes from the command line. Imports the server only when it is to be run: it is an extra."""

from pathlib import Path
from typing import Annotated

import typer

ENGINE_HELP = "transformers, vllm, or remote (the model is a server's address)."
ENGINE_ARGS_HELP = """The engine's other arguments as JSON: '{"max_num_seqs": 512}'."""

REWARD_HELP = "Reward model: a path, a hub name, or (remote) a server's address."
REWARD_KIND_HELP = "process, classifier, vllm-process, vllm-classifier or remote."
REWARD_ARGS_HELP = """The reward's other arguments as JSON: '{"format": "qwen"}'."""


def serve_command(
    model: Annotated[str, typer.Argument(help="Causal language model: a path or hub name.")],
    reward: Annotated[str | None, typer.Option(help=REWARD_HELP)] = None,
    reward_kind: Annotated[str, typer.Option(help=REWARD_KIND_HELP)] = "process",
    reward_args: Annotated[str | None, typer.Option(help=REWARD_ARGS_HELP)] = None,
    n_particles: Annotated[int, typer.Option("--n-particles", "-n")] = 16,
    strategy: Annotated[
        str | None,
        typer.Option(help="Default: particle-filter with a reward, sample without."),
    ] = None,
    engine: Annotated[str, typer.Option(help=ENGINE_HELP)] = "transformers",
    engine_args: Annotated[str | None, typer.Option(help=ENGINE_ARGS_HELP)] = None,
    answer: Annotated[
        str | None, typer.Option(help="number, boxed, line, or a regex with one group.")
    ] = None,
    strength: float = 1.0,
    step: Annotated[str, typer.Option(help=r"As in `steer`.")] = r"\n",
    ess_threshold: float = 0.5,
    temperature: float = 1.0,
    top_p: float = 1.0,
    top_k: int | None = None,
    host: Annotated[str, typer.Option(help="Any but this machine needs a key.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: a free one.")] = 8000,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar="SMCGEN_API_KEY", help="Better set in the environment: ps shows arguments."
        ),
    ] = None,
    model_name: Annotated[
        str | None,
        typer.Option(help="What clients call it; default: the path's last part, or the server's."),
    ] = None,
    max_concurrent: Annotated[int, typer.Option(help="Runs at a time.")] = 8,
    max_queue: Annotated[int, typer.Option(help="Requests that may wait.")] = 64,
    max_particles: int = 64,
    max_tokens: Annotated[
        int, typer.Option(help="Most tokens of a text; also the default.")
    ] = 1024,
    max_body_bytes: int = 1 << 20,
    timeout: Annotated[float, typer.Option(help="Seconds a request may take.")] = 300.0,
    grace: Annotated[float, typer.Option(help="Seconds to end when told to stop.")] = 30.0,
    warm_up: Annotated[bool, typer.Option(help="Run once before requests are taken.")] = True,
) -> None:
    """An OpenAI-compatible server whose answers are steered."""
    from smcgen.serve.auth import check_exposure
    from smcgen.serve.binding import CannotListen, bound
    from smcgen.serve.config import Config
    from smcgen.serve.server import run_server
    from smcgen.text._reward_names import named_reward
    from smcgen.text.engines.names import load_engine

    check_exposure(host, api_key)
    try:
        with bound(host, port) as sockets:  # before a large model is loaded for nothing
            writer = load_engine(engine, model, engine_args)
            config = Config(
                engine=writer,
                model=model_name or (writer.name if engine == "remote" else _last_part(model)),
                reward=named_reward(reward_kind, reward, reward_args),
                answer=answer,
                strategy=strategy,
                n_particles=n_particles,
                strength=strength,
                step=as_typed(step),
                ess_threshold=ess_threshold,
                temperature=temperature,
                top_p=top_p,
                top_k=top_k,
                host=host,
                port=port,
                api_key=api_key,
                max_concurrent=max_concurrent,
                max_queue=max_queue,
                max_particles=max_particles,
                max_tokens=max_tokens,
                max_body_bytes=max_body_bytes,
                timeout=timeout,
                grace=grace,
                warm_up=warm_up,
            )
            run_server(config, sockets=sockets)
    except CannotListen as error:
        typer.secho(f"smcgen: {error}", err=True, fg=typer.colors.RED)
        raise typer.Exit(3) from error


def _last_part(model: str) -> str:
    """A model's name for clients: a folder's place on this machine is not their business."""
    return Path(model).resolve().name if Path(model).exists() else model


def as_typed(text: str) -> int | str:
    """A number of tokens, or a delimiter as it is typed in a shell."""
    return int(text) if text.isdigit() else text.replace(r"\n", "\n")
