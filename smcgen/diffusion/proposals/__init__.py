"""Proposals: other laws to draw x_t from. Their weight p / q keeps the target."""

from smcgen.diffusion.base import Proposal as Proposal
from smcgen.diffusion.proposals.base import Base as Base
from smcgen.diffusion.proposals.guided import Guided as Guided
from smcgen.diffusion.proposals.unmasking import Unmasking as Unmasking
