from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from latentqa.data import plain_dialogs
from latentqa.decoder import References, Target, make_references
from latentqa.decoder.references import N_SHUFFLED, some_vectors
from latentqa.errors import CardError, ConfigError
from latentqa.models import load_model, tiny_model, tiny_tokenizer
from latentqa.types import Activation
from tests.decoder.conftest import DIALOG, ordinary_references


def activation(vectors: torch.Tensor, span: str = "stimulus", first: int = 3) -> Activation:
    n_layers, n_tokens, _ = vectors.shape
    positions = tuple(range(first, first + n_tokens))
    return Activation(vectors, (7,) * n_tokens, positions, tuple(range(n_layers)), span, "tiny", "hash")


def numbered(n_layers: int, n_tokens: int) -> torch.Tensor:
    """Vectors `[L, T, 2]` that say which layer and token they are."""
    grid = torch.meshgrid(torch.arange(n_layers), torch.arange(n_tokens), indexing="ij")
    return torch.stack(grid, dim=-1).float()


def test_the_mean_leaves_out_the_first_token_of_a_dialog() -> None:
    sink = torch.full((1, 1, 4), 1000.0)
    rest = torch.randn(1, 5, 4, generator=torch.Generator().manual_seed(0))
    references = make_references(
        [activation(torch.cat([sink, rest], dim=1), first=0), activation(-rest, first=2)]
    )
    torch.testing.assert_close(references.mean["stimulus"].float(), torch.zeros(1, 4), atol=1e-2, rtol=0)


def test_each_span_kind_has_its_own_mean_and_another_span_takes_the_first() -> None:
    references = make_references([activation(torch.ones(1, 2, 4)), activation(torch.zeros(1, 3, 4), "all")])

    def mean_of(span: str) -> float:
        (vectors,) = references.stand_ins("mean", activation(torch.zeros(1, 6, 4), span))
        assert vectors is not None and vectors.shape == (1, 6, 4)
        return float(vectors.float().mean())

    assert mean_of("stimulus") == 1.0 == mean_of("last:8")
    assert mean_of("all") == 0.0


def test_spans_that_name_tokens_of_one_dialog_share_a_kind() -> None:
    chosen = [activation(torch.full((1, 2, 4), float(n)), f"chars:{n}-9") for n in (2, 4)]
    references = make_references([activation(torch.ones(1, 2, 4)), *chosen])
    assert set(references.mean) == set(references.shuffled) == {"stimulus", "tokens"}
    for span in ("chars:7-8", "[3, 4]", "'quoted'"):
        (vectors,) = references.stand_ins("mean", activation(torch.zeros(1, 2, 4), span))
        assert vectors is not None and float(vectors.float().mean()) == 3.0


def test_the_mean_is_repeated_to_the_length() -> None:
    references = make_references([activation(numbered(2, 3))])
    (vectors,) = references.stand_ins("mean", activation(torch.zeros(2, 4, 2), first=9))
    assert vectors is not None
    assert vectors.tolist() == [[[0, 1]] * 4, [[1, 1]] * 4]


def test_shuffled_are_other_dialogs_at_their_own_length() -> None:
    group = [activation(torch.full((1, n, 2), float(n))) for n in range(1, 20)]
    references = make_references(group, seed=1)
    found = references.stand_ins("shuffled", activation(torch.zeros(1, 3, 2)))
    lengths = [vectors.shape[1] for vectors in found if vectors is not None]
    assert len(lengths) == N_SHUFFLED == len(set(lengths))
    assert all(float(vectors[0, 0, 0]) == vectors.shape[1] for vectors in found if vectors is not None)
    again, other = make_references(group, seed=1), make_references(group, seed=2)
    assert lengths == [v.shape[1] for v in again.shuffled["stimulus"]]
    assert lengths != [v.shape[1] for v in other.shuffled["stimulus"]]


def test_ordinary_dialogs_are_kept_beside_the_others(tmp_path: Path) -> None:
    group = [activation(torch.full((1, n, 2), float(n))) for n in range(1, 6)]
    ordinary = {"stimulus": some_vectors(group, 3, seed=4)}
    replace(make_references(group), ordinary=ordinary).save(tmp_path)
    found = References.load(tmp_path).stand_ins("ordinary", activation(torch.zeros(1, 3, 2)))
    assert len(found) == 3
    assert all(torch.equal(a, b) for a, b in zip(found, ordinary["stimulus"], strict=True) if a is not None)


def test_none_leaves_the_placeholders_unwritten() -> None:
    assert References(mean={}).stand_ins("none", activation(torch.zeros(2, 3, 4))) == [None]


def test_a_reference_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match='no mean reference activations. Use reference="none"'):
        References(mean={}).stand_ins("mean", activation(torch.zeros(1, 3, 4)))
    with pytest.raises(ConfigError, match='"median" does not exist. Use mean, shuffled, none'):
        References(mean={}).stand_ins("median", activation(torch.zeros(1, 3, 4)))


def test_one_layer_of_several() -> None:
    both = make_references([activation(numbered(2, 5)), activation(numbered(2, 3), first=0)])
    for index in (0, 1):
        one = both.of_layer(index)
        alone = make_references(
            [activation(numbered(2, 5)[[index]]), activation(numbered(2, 3)[[index]], first=0)]
        )
        assert torch.equal(one.mean["stimulus"], alone.mean["stimulus"])
        assert torch.equal(one.shuffled["stimulus"][1], alone.shuffled["stimulus"][1])
        assert one.center is not None and one.directions is not None
        assert one.center.shape == (1, 2) and one.directions.shape[0] == 1


@pytest.fixture(scope="module")
def wide() -> Target:
    """A target with more dimensions than the main directions that are kept."""
    return Target(load_model(tiny_model("llama", hidden_size=160), tokenizer=tiny_tokenizer()))


def test_random_vectors_of_equal_norm_are_foreign(wide: Target) -> None:
    references = ordinary_references(wide)
    generator = torch.Generator().manual_seed(0)
    for dialog in ([{"role": "user", "content": "Where is the harbour?"}], DIALOG):
        real = wide.read(dialog)
        noise = torch.randn(real.vectors.shape, generator=generator)
        noise *= real.vectors.norm(dim=-1, keepdim=True) / noise.norm(dim=-1, keepdim=True)
        foreign, own = (references.foreign_energy(activation(v)) for v in (noise, real.vectors))
        assert own is not None and foreign is not None
        assert 0 <= own < 0.8 * foreign < 1


def test_what_spans_the_main_directions_is_not_foreign(wide: Target) -> None:
    readings = [wide.reading(dialog, "last:4") for dialog in plain_dialogs()[:5]]
    references = make_references(wide.read_many(readings))  # 20 vectors lie in 20 directions
    for each in wide.read_many(readings):
        energy = references.foreign_energy(each)
        assert energy is not None and energy < 0.01
    assert References(mean={}).foreign_energy(wide.read(DIALOG)) is None


def test_references_survive_the_file(tmp_path: Path, wide: Target) -> None:
    made = ordinary_references(wide)
    made.save(tmp_path)
    loaded = References.load(tmp_path)
    assert torch.equal(loaded.mean["stimulus"], made.mean["stimulus"])
    pairs = zip(loaded.shuffled["stimulus"], made.shuffled["stimulus"], strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    real = wide.read(DIALOG)
    assert loaded.foreign_energy(real) == made.foreign_energy(real)
    assert [path.name for path in tmp_path.iterdir()] == ["references.safetensors"]


def test_a_damaged_file_is_one_sentence(tmp_path: Path, wide: Target) -> None:
    ordinary_references(wide).save(tmp_path)
    file = tmp_path / "references.safetensors"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(CardError, match="references.safetensors is damaged .* Fetch the decoder again"):
        References.load(tmp_path)


def test_without_a_file_only_none_is_there(tmp_path: Path) -> None:
    assert not References.load(tmp_path).mean
