"""vLLM in this process: a scheduler that pauses and forks, a processor that draws, and who drives them.

Everything that touches names vLLM does not promise to keep is in `scheduler.py` and `processor.py`.
"""
