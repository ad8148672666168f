"""Lets a torchvision that was built for CUDA be imported beside a torch that was not.

The processor of Qwen3-VL takes only its functions in Python. They are kept from being imported by
two operators of its library, which does not load there.
"""

import torch

if torch.version.cuda is None:
    OPERATORS = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        OPERATORS.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
