import torch
from torch import nn

from trainable.training.checkpoint import load_optimizer


def test_every_tensor_of_the_optimizer_goes_to_its_parameters_device() -> None:
    model = nn.Linear(2, 3, device="meta")
    optimizer = torch.optim.AdamW(model.parameters())
    tensors = {
        f"optimizer/{name}/{key}": torch.ones(parameter.shape if key == "exp_avg" else ())
        for name, parameter in model.named_parameters()
        for key in ("exp_avg", "step")
    }

    load_optimizer(model, optimizer, tensors)

    states = [value for parameter in model.parameters() for value in optimizer.state[parameter].values()]
    assert [value.device.type for value in states] == ["meta"] * 4
