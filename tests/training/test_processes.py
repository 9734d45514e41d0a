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
