"""The method: activation-boundary distillation (Heo, Lee, Yun, Choi, AAAI 2019, arXiv 1811.03233).

torch lives in this package and nowhere else. It knows no HTTP, no queue and no database: it reads a workspace
folder and writes one. `abcore.specs` and `abcore.events` are the only modules that other packages may import,
and they do not import torch.
"""
