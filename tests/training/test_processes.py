"""Two CPU processes: what each of them trains and evaluates on."""

import json
from collections import Counter
from pathlib import Path

import pytest

SCRIPT = """
import json, sys
import torch
from pytorch_lightning import Trainer
from cifar_lab import CIFAR10DataModule
from cifar_lab.models import MLP

class Watched(CIFAR10DataModule):
    seen = {"train": [], "validate": [], "test": []}

    def on_after_batch_transfer(self, batch, dataloader_idx):
        images = [hash(image.numpy().tobytes()) for image in batch[0]]
        self.seen[self.trainer.state.stage.value].append(images)
        return super().on_after_batch_transfer(batch, dataloader_idx)

model = MLP(num_classes=3)
data = Watched(sys.argv[1], batch_size=9, eval_batch_size=4, val_size=15)
off = {"logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"}
trainer = Trainer(
    accelerator="cpu", devices=2, strategy="ddp", max_epochs=1, num_sanity_val_steps=0,
    log_every_n_steps=1, **dict.fromkeys(off, False),
)
trainer.fit(model, data)
trainer.test(model, data, verbose=False)
result = {"seen": data.seen, "accuracy": trainer.callback_metrics["acc/test"].item()}
json.dump(result, open(f"rank{trainer.global_rank}.json", "w"))
# Else gloo's thread may still run when the process ends, which aborts it now and then.
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_each_image_is_trained_and_evaluated_once_over_both(tree: Path, run_two) -> None:
    Path("watch.py").write_text(SCRIPT)
    run_two("watch.py", str(tree))
    ranks = [json.loads(Path(f"rank{rank}.json").read_text()) for rank in range(2)]
    counts = {
        split: Counter(image for rank in ranks for batch in rank["seen"][split] for image in batch)
        for split in ("train", "validate", "test")
    }
    # 105 training images: 52 for each process, of which five batches of nine are taken.
    sizes = {split: count.total() for split, count in counts.items()}
    assert sizes == {"train": 90, "validate": 15, "test": 45}
    assert all(max(count.values()) == 1 for count in counts.values())
    assert ranks[0]["accuracy"] == ranks[1]["accuracy"]
    assert ranks[0]["accuracy"] * 45 == pytest.approx(round(ranks[0]["accuracy"] * 45), abs=1e-3)


SPAWNED = """
import json, sys
from pytorch_lightning import Callback, Trainer
from cifar_lab import CIFAR10DataModule
from cifar_lab.models import DeepMLP

class Note(Callback):
    seen = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.seen.append([hash(image.numpy().tobytes()) for image in batch[0]])

    def on_train_end(self, trainer, pl_module):
        json.dump(self.seen, open(f"rank{trainer.global_rank}.json", "w"))

if __name__ == "__main__":
    data = CIFAR10DataModule(sys.argv[1], batch_size=9, val_size=15, augment=["flip"])
    data.setup()
    off = {"logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"}
    options = {"devices": 2, "strategy": "ddp_spawn", "max_epochs": 1, "callbacks": [Note()]}
    trainer = Trainer(accelerator="cpu", **options, **dict.fromkeys(off, False))
    trainer.fit(DeepMLP([8], num_classes=3), data.train_dataloader(), data.val_dataloader())
"""


@pytest.mark.slow
def test_plain_loaders_are_shared_by_processes_that_are_spawned_too(tree: Path, run_two) -> None:
    Path("spawn.py").write_text(SPAWNED)
    run_two("spawn.py", str(tree))
    ranks = [json.loads(Path(f"rank{rank}.json").read_text()) for rank in range(2)]
    assert [len(batches) for batches in ranks] == [5, 5]
    images = Counter(image for batches in ranks for batch in batches for image in batch)
    assert images.total() == len(images) == 90
