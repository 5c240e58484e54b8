"""One training loop with Adam three times: by hand, by Lightning, by a recipe. All end at the same parameters."""

from __future__ import annotations

import lightning as L
import torch
from own_project import MyDataModule, MyModule

from trainoff import Recipe

EPOCHS, LR = 5, 0.01


class Ordered(MyDataModule):
    """Batches in one order, so that the three see the same ones."""

    def train_dataloader(self):
        return torch.utils.data.DataLoader(self.parts[0], batch_size=self.batch_size)


def by_hand(module: MyModule) -> None:
    """Kingma & Ba 2015, algorithm 1, with no optimizer at all."""
    data, step = Ordered(), 0
    data.setup()
    parameters = list(module.parameters())
    first = [torch.zeros_like(parameter) for parameter in parameters]
    second = [torch.zeros_like(parameter) for parameter in parameters]
    for _ in range(EPOCHS):
        for inputs, targets in data.train_dataloader():
            step += 1
            module.zero_grad()
            module.loss(module.net(inputs), targets).backward()
            with torch.no_grad():
                for parameter, m, v in zip(parameters, first, second, strict=True):
                    m.mul_(0.9).add_(parameter.grad, alpha=0.1)
                    v.mul_(0.999).addcmul_(parameter.grad, parameter.grad, value=0.001)
                    root = (v / (1 - 0.999**step)).sqrt() + 1e-8
                    parameter -= LR * (m / (1 - 0.9**step)) / root


class WithAdam(MyModule):
    """The module with an optimizer of its own, as Lightning wants it."""

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=LR)


def trainer() -> L.Trainer:
    return L.Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def parameters_of(module: torch.nn.Module) -> torch.Tensor:
    return torch.nn.utils.parameters_to_vector(module.parameters()).detach()


L.seed_everything(0)
plain = MyModule()
lightning, recipe = WithAdam(), MyModule()
for module in (lightning, recipe):
    module.load_state_dict(plain.state_dict())
start = parameters_of(plain)

by_hand(plain)
trainer().fit(lightning, datamodule=Ordered())
trainer().fit(Recipe({"name": "adam", "lr": LR}).apply(recipe), datamodule=Ordered())

print(f"moved by up to {(parameters_of(plain) - start).abs().max():.3f}")
for name, module in (("Lightning", lightning), ("trainoff", recipe)):
    difference = (parameters_of(module) - parameters_of(plain)).abs().max()
    print(f"{name} and the loop by hand differ by at most {difference:.1e}")
    torch.testing.assert_close(parameters_of(module), parameters_of(plain), rtol=0, atol=1e-5)
