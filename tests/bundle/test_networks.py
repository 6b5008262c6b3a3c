"""Nets of any shape are read as torch holds them; tensors that are not what they seem are refused."""

from __future__ import annotations

import collections
import io
import pickle
import struct
from collections.abc import Callable
from typing import Any

import joblib
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pyfunc.bundle import networks, read_bundle, tensors
from pyfunc.bundle.contents import Linear, RegimeAttention, RegimeMlp, UncertaintyMlp
from pyfunc.bundle.recorders import BUNDLE_NAMES, Name, Recorded
from pyfunc.bundle.stream import Budget, Cursor
from pyfunc.bundle.unpickle import read_pickle
from pyfunc.errors import (
    BundleBudgetError,
    BundleError,
    InvalidModelError,
    MalformedBundleError,
    UnsupportedModelError,
)
from tests.bundle import pickles
from tests.bundles import LINEAR, bundle_bytes

pytestmark = [
    pytest.mark.filterwarnings("ignore:TypedStorage is deprecated"),  # the layout under test is the old one
    pytest.mark.filterwarnings("ignore:Trying to unpickle estimator"),  # scikit-learn, of an older sample
]

Array = NDArray[np.float32]
State = dict[str, Any]


def recorded(state: object) -> dict[str, Array]:
    """A state dict as the reader sees it once a trainer has written it."""
    cursor = Cursor(pickle.dumps(state, protocol=4))
    return tensors.read_state(read_pickle(cursor, BUNDLE_NAMES, Budget()), Budget())


def regime_module(d: int, hidden: int, blocks: int, regimes: int) -> torch.nn.Module:
    """(Linear, LayerNorm, SiLU, Dropout) blocks and a head, with norms that are not the identity."""
    layers: list[torch.nn.Module] = []
    for width in [d] + [hidden] * (blocks - 1):
        layers += [torch.nn.Linear(width, hidden), torch.nn.LayerNorm(hidden)]
        layers += [torch.nn.SiLU(), torch.nn.Dropout(0.3)]
    module = torch.nn.Module()
    module.net = torch.nn.Sequential(*layers, torch.nn.Linear(hidden, regimes))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter))
    return module.eval()


def uncertainty_module(d: int, first: int, second: int) -> torch.nn.Module:
    """Linear, ReLU, Dropout, Linear, ReLU, Dropout, Linear to one, Softplus."""
    module = torch.nn.Module()
    module.uncertainty_net = torch.nn.Sequential(
        torch.nn.Linear(d, first), torch.nn.ReLU(), torch.nn.Dropout(0.1),
        torch.nn.Linear(first, second), torch.nn.ReLU(), torch.nn.Dropout(0.1),
        torch.nn.Linear(second, 1), torch.nn.Softplus(),
    )  # fmt: skip
    return module.eval()


def affine(layer: Linear, x: Array) -> Array:
    """What a Linear does."""
    return x @ layer.weight.T + layer.bias


def logits(net: RegimeMlp, x: Array) -> Array:
    """The regime net by its arrays alone."""
    for linear, norm in net.blocks:
        x = affine(linear, x)
        centred = x - x.mean(axis=1, keepdims=True)
        x = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + norm.epsilon)
        x = x * norm.weight + norm.bias
        x = x / (1 + np.exp(-x))
    return affine(net.head, x)


@pytest.mark.parametrize(
    ("d", "hidden", "blocks", "regimes"), [(1, 1, 1, 2), (5, 7, 2, 3), (3, 33, 4, 6), (2, 4, 20, 2)]
)
def test_regime_nets_of_any_shape_are_read(d: int, hidden: int, blocks: int, regimes: int) -> None:
    """Other widths, depths, counts of features and regimes than any sample's; 20 blocks are 82 tensors."""
    torch.manual_seed(d)
    module = regime_module(d, hidden, blocks, regimes)
    x = torch.randn(9, d)

    net = networks.regime_net(recorded(module.state_dict()), d)

    assert isinstance(net, RegimeMlp)
    assert blocks == len(net.blocks)
    want = module.net(x).detach().numpy()
    np.testing.assert_allclose(logits(net, x.numpy()), want, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 1, 1), (6, 9, 4), (4, 3, 8)], ids=str)
def test_uncertainty_nets_of_any_shape_are_read(shape: tuple[int, int, int]) -> None:
    """The middle width need not be half the first."""
    module = uncertainty_module(*shape)
    x = torch.randn(9, shape[0])

    net = networks.uncertainty_net(recorded(module.state_dict()), shape[0])

    assert isinstance(net, UncertaintyMlp)
    first, second, last = net.layers
    found = affine(last, np.maximum(affine(second, np.maximum(affine(first, x.numpy()), 0)), 0))
    want = module.uncertainty_net(x).detach().numpy()
    np.testing.assert_allclose(np.logaddexp(found, 0), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("heads", [1, 4])
def test_attention_over_one_step_is_its_value_and_output(heads: int) -> None:
    """Whatever the number of heads: the weight of a sequence's only element is 1."""
    d, h = 5, 8
    module = torch.nn.Module()
    module.embedding = torch.nn.Linear(d, h)
    module.attention = torch.nn.MultiheadAttention(h, heads, batch_first=True)
    module.classifier = torch.nn.Sequential(
        torch.nn.Linear(h, 4), torch.nn.ReLU(), torch.nn.Dropout(0.1), torch.nn.Linear(4, 3)
    )
    module.eval()
    x = torch.randn(6, d)
    embedded = module.embedding(x).unsqueeze(1)
    attended = module.attention(embedded, embedded, embedded)[0].mean(dim=1)

    net = networks.regime_net(recorded(module.state_dict()), d)

    assert isinstance(net, RegimeAttention)
    found = affine(net.output, affine(net.value, affine(net.embedding, x.numpy())))
    np.testing.assert_allclose(found, attended.detach().numpy(), rtol=1e-4, atol=1e-6)
    found = affine(net.head, np.maximum(affine(net.hidden, found), 0))
    np.testing.assert_allclose(found, module.classifier(attended).detach().numpy(), rtol=1e-4, atol=1e-6)


def joblib_bytes(content: object) -> bytes:
    """As a trainer writes it."""
    buffer = io.BytesIO()
    joblib.dump(content, buffer, compress=3)
    return buffer.getvalue()


@pytest.mark.parametrize("dump", [pickle.dumps, joblib_bytes], ids=["pickle", "joblib"])
def test_nets_stand_in_a_bundle_of_either_container(dump: Callable[[object], bytes]) -> None:
    """A sample with other nets put in, as plain pickle and as joblib writes it."""
    content = joblib.load(io.BytesIO(bundle_bytes(LINEAR)))
    d = len(content["feature_columns"])
    content["model_state"]["regime_classifier_state"] = regime_module(d, 6, 1, 4).state_dict()
    content["model_state"]["uncertainty_estimator_state"] = None

    bundle = read_bundle(dump(content))

    assert isinstance(bundle.regime_net, RegimeMlp)
    assert ("low_vol", "med_vol", "high_vol", "regime_3") == bundle.regime_names
    assert bundle.uncertainty_net is None


def test_views_of_one_storage_are_read_by_offset() -> None:
    """Tensors that a trainer cut from one block: each is where its offset says."""
    block = torch.arange(12, dtype=torch.float32)

    found = recorded({"a": block[2:8].view(2, 3), "b": block[8:], "c": block[3:4]})

    np.testing.assert_array_equal(found["a"], [[2, 3, 4], [5, 6, 7]])
    np.testing.assert_array_equal(found["b"], [8, 9, 10, 11])
    np.testing.assert_array_equal(found["c"], [3])


BLOCK = torch.arange(12, dtype=torch.float32)


@pytest.mark.parametrize(
    ("tensor", "error", "message"),
    [
        (BLOCK.view(3, 4).t(), MalformedBundleError, "contiguous"),
        (BLOCK[::2], MalformedBundleError, "contiguous"),
        (BLOCK[:1].expand(5), MalformedBundleError, "contiguous"),
        (BLOCK[:0], MalformedBundleError, "positive sizes"),
        (BLOCK.double(), UnsupportedModelError, "DoubleStorage"),
        (BLOCK.half(), UnsupportedModelError, "HalfStorage"),
        (BLOCK.long(), UnsupportedModelError, "LongStorage"),
        (np.eye(3, dtype=np.float32), MalformedBundleError, "torch tensor"),
        ("tensor", MalformedBundleError, "torch tensor"),
    ],
    ids=str,
)
def test_other_tensors_are_refused(tensor: object, error: type[Exception], message: str) -> None:
    """Dense, contiguous, float32: nothing else is a net's weight."""
    with pytest.raises(error, match=message):
        recorded({"net.0.weight": tensor})


def storage_file(data: bytes, offset: object = 0, size: object = (12,), stride: object = (1,)) -> Recorded:
    """What a pickle of a tensor on this storage file is recorded as."""
    storage = Recorded(Name("torch.storage", "_load_from_bytes"), (data,))
    return Recorded(Name("torch._utils", "_rebuild_tensor_v2"), (storage, offset, size, stride, False))


def legacy(**parts: Any) -> bytes:
    """A storage file in torch's legacy layout, with parts that may lie."""
    reference = pickles.program(
        b"(", pickles.text("storage"), pickles.global_line("torch", "FloatStorage"),
        pickles.text("0"), pickles.text("cpu"), b"K" + bytes([parts.get("count", 12)]), b"NtQ",
    )  # fmt: skip
    facts = {"protocol_version": 1001, "little_endian": parts.get("little", True), "type_sizes": {}}
    heads = [parts.get("magic", tensors.MAGIC), parts.get("protocol", 1001), facts]
    return b"".join(
        [
            *(pickle.dumps(head, protocol=2) for head in heads),
            parts.get("reference", reference),
            pickle.dumps(parts.get("keys", ["0"]), protocol=2),
            struct.pack("<q", parts.get("stored", 12)),
            parts.get("data", BLOCK.numpy().tobytes()),
        ]
    )


def test_the_legacy_layout_by_hand_is_what_torch_reads() -> None:
    """The files of the next test are torch's own format, but for the lie in each."""
    read = tensors.read_state({"w": storage_file(legacy())}, Budget())["w"]

    np.testing.assert_array_equal(read, torch.load(io.BytesIO(legacy()), weights_only=False))
    np.testing.assert_array_equal(read, BLOCK)


@pytest.mark.parametrize(
    "lie",
    [
        {"magic": 1}, {"protocol": 1002}, {"little": False}, {"keys": ["1"]}, {"keys": []},
        {"keys": ["0", "0"]},
        {"count": 13}, {"stored": 2**40}, {"stored": -12}, {"data": bytes(47)}, {"data": bytes(52)},
        {"data": b""}, {"reference": pickles.program(b"NQ")}, {"reference": pickles.program(b"N")},
        {"reference": pickles.program(pickles.stack_global("os", "system") + b"Q")},
    ],
    ids=str,
)  # fmt: skip
def test_storage_files_that_lie_are_refused(lie: dict[str, Any]) -> None:
    """Counts, keys and byte order must agree before a number is looked at."""
    with pytest.raises(BundleError):
        tensors.read_state({"w": storage_file(legacy(**lie))}, Budget())


@pytest.mark.parametrize(
    "view",
    [
        {"offset": 1}, {"offset": -1}, {"offset": 2**70}, {"size": (13,)}, {"size": (2**31,)},
        {"size": (-12,)},
        {"size": (12, 1)}, {"stride": (0,)}, {"stride": (-1,)}, {"stride": ()}, {"size": [12]},
        {"size": (1,) * 5, "stride": (1,) * 5}, {"size": (3, 4), "stride": (1, 3)}, {"offset": "0"},
    ],
    ids=str,
)  # fmt: skip
def test_views_outside_their_storage_are_refused(view: dict[str, Any]) -> None:
    """Offsets, sizes and strides that torch would follow out of bounds, backwards or twice."""
    with pytest.raises(MalformedBundleError):
        tensors.read_state({"w": storage_file(legacy(), **view)}, Budget())


def test_few_bytes_are_not_many_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors that share a storage count each time."""
    monkeypatch.setattr(tensors, "MAX_NUMBERS", 30)

    with pytest.raises(BundleBudgetError, match="numbers of a net"):
        recorded({"a": BLOCK, "b": BLOCK, "c": BLOCK})


def damaged(edit: Callable[[State], object]) -> State:
    """A regime net's state with something wrong."""
    state = dict(regime_module(5, 4, 2, 3).state_dict())
    edit(state)
    return state


@pytest.mark.parametrize(
    ("edit", "error", "message"),
    [
        (lambda s: s.pop("net.4.bias"), InvalidModelError, "net.4.weight"),
        (lambda s: s.pop("net.1.weight"), InvalidModelError, "net.1.weight"),
        (lambda s: s.pop("net.8.weight"), InvalidModelError, "net.8.weight"),
        (lambda s: s.pop("net.0.weight"), UnsupportedModelError, "regime net"),
        (lambda s: s.update({"net.2.weight": BLOCK}), UnsupportedModelError, r"net\.2"),
        (lambda s: s.update({"extra": BLOCK}), UnsupportedModelError, "extra"),
        (lambda s: s.update({"net.0.weight": torch.zeros(4, 6)}), InvalidModelError, r"\(4, 5\)"),
        (lambda s: s.update({"net.5.bias": torch.zeros(5)}), InvalidModelError, r"\(4,\)"),
        (lambda s: s["net.8.weight"].fill_(np.nan), InvalidModelError, "finite"),
        (lambda s: s["net.1.bias"].fill_(np.inf), InvalidModelError, "finite"),
        (lambda s: s.update({"net.9999.weight": BLOCK}), InvalidModelError, "hidden blocks"),
    ],
)
def test_regime_nets_that_do_not_fit_are_refused(
    edit: Callable[[State], object], error: type[Exception], message: str
) -> None:
    """Each tensor against the architecture its names make."""
    with pytest.raises(error, match=message):
        networks.regime_net(recorded(damaged(edit)), 5)


def test_nets_of_another_width_are_refused() -> None:
    """A net takes the model's features, all of them."""
    with pytest.raises(InvalidModelError, match=r"net\.0\.weight.*\(4, 6\).*\(4, 5\)"):
        networks.regime_net(recorded(damaged(lambda _: None)), 6)
    state = dict(uncertainty_module(5, 4, 3).state_dict())
    two = {"uncertainty_net.6.weight": torch.zeros(2, 3), "uncertainty_net.6.bias": torch.zeros(2)}
    with pytest.raises(InvalidModelError, match="one output"):
        networks.uncertainty_net(recorded(state | two), 5)


@pytest.mark.parametrize("state", [None, {}, collections.OrderedDict()], ids=str)
def test_no_state_is_no_net(state: object) -> None:
    """Either net may be absent."""
    assert networks.regime_net(recorded(state), 5) is None
    assert networks.uncertainty_net(recorded(state), 5) is None
