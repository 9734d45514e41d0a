"""The images of benchmarks/unlike.py, and what the model card says of them."""

import json

import pytest

import unlike
from cifar_lab.run.checkpoint import PRETRAINED, pretrained


@pytest.mark.parametrize("kind", unlike.KINDS)
def test_the_share_of_images_like_no_class_is_that_of_the_card(kind: str) -> None:
    found = json.loads((PRETRAINED / "unlike.json").read_text("utf-8"))
    assert list(found["like_no_class"]) == pretrained()
    assert found["images_of_each_kind"] == unlike.COUNT
    expected = found["like_no_class"]["mlp"][kind]
    assert unlike.share("mlp", unlike.KINDS[kind]()) == pytest.approx(expected, abs=0.0021)
