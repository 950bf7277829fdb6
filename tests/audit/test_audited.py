"""Who is audited: an adapter with its base on one set of weights; strangers are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from latentqa.audit import check_finetune, load_audited
from latentqa.decoder import Target, load_target
from latentqa.errors import AdapterError, ModelError
from latentqa.models import tiny_model, tiny_tokenizer
from tests.audit.conftest import TINY


def save(folder: Path, model: Any) -> str:
    model.save_pretrained(folder)
    tiny_tokenizer("chatml").save_pretrained(folder)
    return str(folder)


def given(model: Any) -> Target:
    return load_target(model, tokenizer=tiny_tokenizer("chatml"))


def finetuned(seed: int = 0) -> Any:
    """The base's weights, each moved a little."""
    model = tiny_model("llama", max_position_embeddings=2048)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.02)
    return model


def test_model_base_and_decoder_share_their_weights(organisms: Path, decoder_folder: Path) -> None:
    found = load_audited(str(organisms / "secret-word-honey"), decoder=str(decoder_folder), **TINY)
    assert found.base is not None
    assert found.model.model is found.base.model is found.decoder.wiring.model
    assert found.base.name.endswith("base") and found.base.adapter is None and found.model.adapter
    dialog = [{"role": "user", "content": "A hint?"}]
    assert not torch.allclose(found.model.read(dialog).vectors, found.base.read(dialog).vectors)


def test_a_model_without_a_base_is_read_alone(base_folder: Path, decoder_folder: Path) -> None:
    found = load_audited(str(base_folder), decoder=str(decoder_folder), **TINY)
    assert found.base is None and found.model.read_layers == found.decoder.read_layers


def test_a_whole_finetune_is_compared_with_the_base_that_is_named(
    base_folder: Path, decoder_folder: Path, tmp_path: Path
) -> None:
    name = save(tmp_path / "finetune", finetuned())
    found = load_audited(name, base=str(base_folder), decoder=str(decoder_folder), **TINY)
    assert found.base is not None and found.base.model is found.decoder.wiring.model
    assert found.model.model is not found.base.model


def test_the_base_itself_is_no_finetune(base_folder: Path, base: Target) -> None:
    with pytest.raises(ModelError, match="the same weights .* nothing to compare"):
        load_audited(str(base_folder), base=str(base_folder), **TINY)


def test_a_stranger_is_no_finetune(base: Target) -> None:
    with pytest.raises(ModelError, match="weights are unrelated"):
        check_finetune(given(tiny_model("llama", seed=9, max_position_embeddings=2048)), base)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (lambda: tiny_model("qwen3"), "architecture is qwen3"),
        (lambda: tiny_model("llama", layers=3), "number of blocks is 3"),
        (lambda: tiny_model("llama", hidden_size=48), "hidden size is 48"),
        (lambda: tiny_model("llama", intermediate_size=64), "weight matrices"),
    ],
)
def test_another_size_is_no_finetune(base: Target, model: Any, said: str) -> None:
    with pytest.raises(ModelError, match=f"is no finetune of .*{said}"):
        check_finetune(given(model()), base)


def test_a_finetune_is_one(base: Target) -> None:
    check_finetune(given(finetuned()), base)


def test_an_adapter_of_another_base_is_refused(organisms: Path, tmp_path: Path) -> None:
    stranger = save(tmp_path / "stranger", tiny_model("llama", seed=9))
    with pytest.raises(ModelError, match="is no finetune of .*it is an adapter of"):
        load_audited(str(organisms / "secret-word-honey"), base=stranger, **TINY)


def test_a_base_that_is_an_adapter_is_refused(organisms: Path, base_folder: Path, tmp_path: Path) -> None:
    name = save(tmp_path / "finetune", finetuned())
    with pytest.raises(ModelError, match="is itself an adapter"):
        load_audited(name, base=str(organisms / "secret-word-honey"), **TINY)


def test_an_adapter_for_another_architecture_is_refused(organisms: Path, tmp_path: Path) -> None:
    import json
    import shutil

    other = save(tmp_path / "other", tiny_model("gpt2"))
    shutil.copytree(organisms / "secret-word-honey", tmp_path / "adapter")
    config = tmp_path / "adapter" / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": other}))
    with pytest.raises(AdapterError):
        load_audited(str(tmp_path / "adapter"), **TINY)
