"""Rewards of finished samples: any function of a batch."""

from smcgen.diffusion.base import Reward as Reward
from smcgen.diffusion.rewards.function import FunctionReward as FunctionReward
