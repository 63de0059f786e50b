"""Use NuAT in a training loop of your own: the defense turns a batch into a loss, and the rest is yours."""

import torch

from nuat.attacks import PGD
from nuat.config import DataConfig
from nuat.core.schedules import Ramp
from nuat.core.threat import Linf
from nuat.data import batches, load
from nuat.defenses import NuAT, Step
from nuat.models import SmallCNN


def main(epochs: int = 12, images: int = 4000) -> float:
    torch.manual_seed(0)
    digits = load(DataConfig(name="mnist-sample", validation=0, train_limit=images))
    model = SmallCNN(in_channels=1, classes=10, image_size=digits.image_size)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    defense = NuAT(lam=Ramp(peak=2.0), alpha=0.3)
    state = defense.init_state(model)
    for epoch in range(epochs):
        order = torch.randperm(len(digits.train))
        parts = list(batches(digits.train.select(order), batch_size=64))
        for number, (x, y) in enumerate(parts):
            step = Step(threat=Linf(0.3), epoch=epoch, epochs=epochs, batch=number, batches=len(parts))
            terms = defense.loss(model, x, y, step, state)
            optimizer.zero_grad()
            terms.loss.backward()
            optimizer.step()
            defense.after_step(model, step, state)
    x, y = next(batches(digits.test, batch_size=1000))
    x_adv = PGD(model, eps=0.3, alpha=0.01, steps=20)(x, y)
    return float((model.eval()(x_adv).argmax(dim=1) == y).double().mean())


if __name__ == "__main__":
    print(f"accuracy under PGD-20 at eps 0.3: {main():.1%}")
