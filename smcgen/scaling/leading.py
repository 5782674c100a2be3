"""Is the leading answer truly the first? The posterior probability, from votes."""

import numpy as np
from jaxtyping import Float64
from scipy.special import gammainc, gammaincinv

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(128)


def leads(votes: Float64[np.ndarray, " answers"], prior: float = 1.0) -> float:
    """P(the answer with the most votes has the largest probability | votes).

    The answers' probabilities have a Dirichlet law with `prior + votes`, and `prior` for an answer that has not been
    seen yet. Normalised gamma variables have that law, so that

        P = integral of g_1(x) prod_{j > 1} P(a_j, x) dx,    a_j = prior + votes_j

    with g_1 the leader's gamma density and P the regularised incomplete gamma function: one integral however many
    answers there are. For two answers it is the beta tail of Aggarwal et al. (2023), arXiv:2305.11860.
    """
    if not len(votes):
        return 0.0
    first = int(np.argmax(votes))
    others = np.append(np.delete(votes, first), 0.0) + prior
    u = (_NODES + 1) / 2
    x = gammaincinv(votes[first] + prior, u)
    inside = np.prod(gammainc(others[:, None], x), axis=0)
    return float(_WEIGHTS @ inside / 2)
