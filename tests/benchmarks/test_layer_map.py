"""The layer map: every state is asked about, and put where the decoder expects it."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from latentqa.benchmarks.layer_map import layer_map, map_json, save_layer_map
from latentqa.reader import FakeReader
from latentqa.types import Activation, Score
from tests.benchmarks.conftest import SUBJECT


class Seer(FakeReader):
    """Support is the first number of the state that it is given."""

    def score(self, queries, candidates, /):
        return [
            [Score(texts[0], 0.0, float(query.activation.vectors[0, 0, 0]), 1)]
            for query, texts in zip(queries, candidates, strict=True)
        ]


def capture(dialog, span, layers) -> Activation:
    n = len(layers)
    values = torch.arange(n * 5, dtype=torch.float32).reshape(n, 5, 1).expand(-1, -1, 3) - 6
    return Activation(values, (1, 2, 3, 4, 5), (0, 1, 2, 3, 4), tuple(layers), span, "tiny", "hash")


def test_a_layer_map_asks_about_every_state(tmp_path: Path) -> None:
    given = {"capture": capture, "layers": (0, 2, 4), "trained_layers": (2, 4), "decode": "t{}".format}
    found = layer_map(Seer({}), [{"role": "user", "content": "x"}], "Who?", "a pirate", **given)
    assert found.support[0] == (-6.0, -5.0, -4.0, -3.0, -2.0)
    assert found.support[2][0] == -1.0  # layer 4 is read with layer 2, which stands first
    assert found.tokens == ("t1", "t2", "t3", "t4", "t5")
    assert any("never saw" in note and "at 2 of 3 layers" in note for note in found.notes)
    assert [row["group"] for row in map_json(found)["rows"]] == ["layer 0", "layer 2", "layer 4"]
    files = save_layer_map(found, tmp_path, vars(SUBJECT) | {"versions": {}})
    assert [file.suffix for file in files] == [".json", ".png", ".html"]
    assert json.loads(files[0].read_text())["support"][0][0] == -6.0
    page = files[2].read_text()
    assert "data:image/png;base64," in page and "a pirate" in page


def test_a_decoder_of_sampled_layers_gets_each_under_its_own_number() -> None:
    seen = []

    class Layers(Seer):
        def score(self, queries, candidates, /):
            seen.extend((query.activation.layers, query.activation.vectors.shape) for query in queries)
            return super().score(queries, candidates)

    found = layer_map(
        Layers({}), [], "Who?", "x", capture=capture, layers=(0, 2), trained_layers=(2, 4), decode=str,
        sampled=True,
    )  # fmt: skip
    assert {layers for layers, _ in seen} == {(4,), (2,)} and seen[0][1] == (1, 1, 3)
    assert "any one of the layers [2, 4]; at 1 of 2 layers" in found.notes[1]


def test_a_decoder_of_two_layers_reads_both_moved_together() -> None:
    seen = []

    class Layers(Seer):
        def score(self, queries, candidates, /):
            seen.extend(query.activation.vectors[:, 0, 0].tolist() for query in queries)
            return super().score(queries, candidates)

    given = {"layers": (0, 3, 4), "trained_layers": (2, 4), "decode": str}
    found = layer_map(Layers({}), [], "Who?", "x", capture=capture, **given)
    first = {layer: seen[5 * row] for row, layer in enumerate(found.layers)}
    # captured are layers 0, 1, 2, 3 and 4, whose first tokens hold -6, -1, 4, 9 and 14
    assert first == {0: [-6.0, -6.0], 3: [-1.0, 9.0], 4: [4.0, 14.0]}
