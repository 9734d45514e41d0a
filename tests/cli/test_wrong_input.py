"""Wrong words to each command: one line that says what is wrong, before anything is done."""

from pathlib import Path

import pytest

from cifar_lab.training import fit

FIGURE = "expected a name that ends in .svg, .png, .pdf"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("fit --resume --seeds 0..4", "--resume and --seeds: a single run is resumed"),
        ("fit --seed 1 --seeds 0..4", "--seed 1 and --seeds: give one of them"),
        ("fit --seeds 0,1 --fast_dev_run", "--fast_dev_run and --seeds: give one of them"),
        ("fit --seeds 0,1 --devices 2 --accelerator cpu", "by one process"),
        ("ablate --seeds 1", "--seeds 1: expected at least two"),
        ("ablate --model fast_cnn --only 0", "--only 0: expected numbers from: 1 first"),
        ("ablate --model fast_cn", "did you mean fast_cnn"),
        ("report --systems 9", "--systems 9: unknown"),
        ("report --systems none", "--systems none: unknown"),
        ("report --systems numpy_mpl", "did you mean numpy_mlp"),
        ("report --no_train --systems 1", "none of the runs exists"),
        ("report --output text.ckpt/x", "--output text.ckpt/x/results.json: cannot be written"),
        ("report --reference text.ckpt/x", "--reference text.ckpt/x/results.json: cannot be"),
        ("speedrun --max_epochs 1 --max_steps 9", "--max_steps 9 and --max_epochs: give one"),
        ("speedrun --seed=7", "--seed 7: the runs have the seeds of --seeds"),
        ("speedrun --recipe mlp --hiden_units 9", "did you mean --hidden_units"),
        ("speedrun --val_size 9", "--val_size 9: a speedrun trains on all"),
        ("speedrun --eval_every 9", "--eval_every 9: a speedrun evaluates at its end"),
        ("speedrun --limit_val_batches 1", "--limit_val_batches: a speedrun trains and eval"),
        ("speedrun --overfit_batches 1", "--overfit_batches: a speedrun trains and evaluates"),
        ("speedrun --output text.ckpt/found.json", "cannot be written"),
        ("speedrun --figure text.ckpt/curve.svg", "--figure text.ckpt/curve.svg: c"),
        ("speedrun --tta none", "--tta none: expected one of flip, flip_shift, flip_grid"),
        ("speedrun --figure curve.doc", f"curve.doc: {FIGURE}"),
        ("study-initialisation --output a.doc", f"--output a.doc: {FIGURE}"),
        ("study-initialisation --data_dir none", "data_dir none: no such folder"),
        ("study-initialisation --seed 7", "--seed 7: the runs have the seeds of --seeds"),
        ("study-initialisation --val_size 15", "--val_size 15: the study has no validation"),
        ("evaluate none.ckpt", "none.ckpt: no such checkpoint"),
        ("evaluate text.ckpt", "text.ckpt: damaged or not a checkpoint"),
        ("evaluate x --split validation", "--split validation: expected one of test, val, train"),
        ("evaluate x.ckpt --batch_size 0", "--batch_size 0: expected a positive integer"),
        ("evaluate x --source folder", "--source folder: expected one of auto, cifar10, synthetic"),
        ("export none.ckpt", "none.ckpt: no such checkpoint"),
        ("export", "CKPT"),
        ("export x.ckpt --format tflite", "tflite"),
        ("predict none.ckpt x.png", "none.ckpt: no such checkpoint"),
        ("predict x.ckpt", "IMAGE"),
        ("predict x.ckpt x.png --top 0", "--top 0: expected a positive integer"),
        ("check-gradients --layr conv", "--layr: unknown; did you mean --layer?"),
        ("check-gradients --layer cnv", "--layer cnv: unknown; did you mean conv?"),
        ("check-gradients --file none.py", "none.py: no such file"),
        ("check-gradients --file data", "data: a folder"),
        ("check-gradients --file x.py --seconds 0", "--seconds 0: expected a number above 0"),
        ("exercise", "FOLDER: missing"),
        ("exercise text.ckpt/x", "text.ckpt/x/modules.py: cannot be written"),
        ("check-gradients --dtype float16", "--dtype float16: expected one of float64, float32"),
    ],
)
def test_wrong_words_are_explained_in_a_line(words, message, write_tree, refused, monkeypatch):
    write_tree("data", train=20, test=1)
    Path("text.ckpt").write_text("not a checkpoint")
    monkeypatch.setattr(fit, "train", lambda *given, **named: pytest.fail("trained"))
    assert message in refused(*words.split())
    assert not list(Path().rglob("version_*"))
