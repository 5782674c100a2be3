"""Evaluation: which strategy is worth its cost with this model, this reward and this budget?

* `tasks`: problems with known answers, from files
* `statistics`: accuracy, coverage, calibration and scaling ratios, with their intervals
"""
