"""Wrong words to ``evaluate``, ``export`` and ``predict``: one line that says what is wrong."""

from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("evaluate none.ckpt", "none.ckpt: no such checkpoint"),
        ("evaluate text.ckpt", "text.ckpt: damaged or not a checkpoint"),
        ("evaluate x.ckpt --splt val", "--splt: unknown; did you mean --split?"),
        ("evaluate x --split validation", "--split validation: expected one of test, val, train"),
        ("evaluate x --tta crop", "--tta crop: expected one of none, flip, flip_shift, flip_grid"),
        ("evaluate x.ckpt --batch_size 0", "--batch_size 0: expected a positive integer"),
        ("evaluate x --source folder", "--source folder: expected one of auto, cifar10, synthetic"),
        ("export none.ckpt", "none.ckpt: no such checkpoint"),
        ("export text.ckpt", "text.ckpt: damaged or not a checkpoint"),
        ("export", "CKPT"),
        ("export x.ckpt --format tflite", "tflite"),
        ("predict none.ckpt x.png", "none.ckpt: no such checkpoint"),
        ("predict text.ckpt x.png", "text.ckpt: damaged or not a checkpoint"),
        ("predict x.ckpt", "IMAGE"),
        ("predict x.ckpt x.png --top 0", "--top 0: expected a positive integer"),
        ("predict x.ckpt x.png --accelerator tpu", "tpu"),
    ],
)
def test_wrong_words_are_explained_in_a_line(words: str, said: str, refused) -> None:
    Path("text.ckpt").write_text("not a checkpoint")
    told = refused(*words.split())
    assert said in told
    assert told.count("\n") == 1
