"""Table 1 of Puri et al. (2025), arXiv:2502.01618: particle filtering against its rivals at N rollouts.

On a GPU, with problems from local files (MATH500's or AIME 2024's own):

    python examples/puri_table1.py --task math500.jsonl --policy Qwen/Qwen2.5-Math-1.5B-Instruct \
        --reward Qwen/Qwen2.5-Math-PRM-7B --engine vllm --out runs/puri

Without arguments it rehearses on the small models that ship with smcgen. Interrupted, it goes on
from what is in --out.
Published with N = 64, T = .8: best-of-N .826, weighted .828, DVTS .834, particle filter .854
(MATH500); .133, .133, .166 and .233 (AIME 2024).
"""

import argparse
from pathlib import Path

from rich.console import Console

from smcgen import scaling
from smcgen.scaling.evaluation import evaluate, figure, load_task, save, table
from smcgen.shipped import shipped
from smcgen.text import ProcessReward
from smcgen.text.engines.names import load_engine

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
parser.add_argument("--task", help="problems, see docs/evaluation.md")
parser.add_argument("--policy", default=str(shipped("tape-policy")))
parser.add_argument("--reward", default=str(shipped("tape-prm-good")))
parser.add_argument("--engine", default="transformers", help="or vllm")
parser.add_argument("--engine-args", help="as JSON")
parser.add_argument("--n", type=int, help="rollouts; 64 in the paper")
parser.add_argument("--limit", type=int, help="the first so many problems")
parser.add_argument("--max-tokens", type=int, default=2048)
parser.add_argument("--equivalent", default="numeric", help="math: with math-verify")
parser.add_argument("--batch", type=int, help="problems in one engine call")
parser.add_argument("--out", help="folder for records, table and figure")
options = parser.parse_args()

if options.task:
    task, n = load_task(options.task).templated("steps"), options.n or 64
    writing = scaling.Writing(
        step="\n\n",
        max_steps=50,
        max_tokens=options.max_tokens,
        temperature=0.8,
        answer="boxed",
        equivalent=options.equivalent,
    )
else:
    task, n = load_task(shipped("data/tape.jsonl")).where(ops=4).first(4), options.n or 4
    writing = scaling.Writing(max_steps=8, max_tokens=64, answer=r"A:(\d+)")
for bad in task.bad:
    print(bad)

results = evaluate(
    task if options.limit is None else task.first(options.limit),
    {
        "pass@1": scaling.as_strategy("sample"),
        "best-of-N": scaling.as_strategy("best-of-n"),
        "weighted best-of-N": scaling.as_strategy("weighted-best-of-n"),
        "DVTS": scaling.as_strategy("dvts"),
        "particle filter (published)": scaling.as_strategy("particle-filter-puri"),
        "particle filter": scaling.ParticleFilter(ess_threshold=1.0),
    },
    load_engine(options.engine, options.policy, options.engine_args),
    ProcessReward(options.reward),
    budgets=n,
    writing=writing,
    batch=options.batch,
    out=options.out,
    progress=bool(options.out),
)
Console(width=132).print(table(results))
if options.out:
    save(results, Path(options.out))
    figure(results, Path(options.out) / "accuracy.png")
    print(f"{len(results)} records, table and figure are in {options.out}")
