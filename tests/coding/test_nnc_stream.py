"""NNC streams: bytes of NNCodec 2.1.3, round trips, what is refused, hostile bytes."""

from __future__ import annotations

import importlib.util
import time
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcomp.coding.nnc import decode_levels, encode_levels
from fedcomp.coding.nnc_stream import Model, Node, read_model, write_model
from fedcomp.coding.nnc_stream_units import (
    ModelHeader,
    TensorHeader,
    put_model,
    put_tensor,
)
from fedcomp.coding.nnc_syntax import BitReader, BitWriter, unit
from fedcomp.coding.nnc_write import PayloadWriter
from fedcomp.errors import BitstreamError, CodecError

W = [[0, 0, 1, 0, 0, 0], [1, 1, -1, -1, 0, 0], [-2, 0, -1, -1, 0, 0], [0, 1, 0, 1, -1, 0]]
B = [209715, -104858, 0, 419430]
PLAIN = bytes.fromhex(
    "00040201 0008068100400080 00060e000000 0019 16 09 7700 d040c1212182a080"
    "efdc78028fcaad2e258b94 0023 16 09 6200 d0c0c3840a80"
    "b4d80013400000ccca00000001998f80000016e994f7c0"
)
FIRST = bytes.fromhex(
    "00040201000806810840008000060e00000000151609770093046230482840a820fb7e2801a67e"
)
SECOND = bytes.fromhex(
    "00040201000806810840008000060e0000000016160977009304a630482840a820fb7e28007056f0"
)
# By NNCodec 2.1.3: (dependent, row_skip, search) -> the stream of `weights(7, …)`.
MODELS = {
    (False, False, False): (
        "00040201000806810040008000060e000000003c1609636f6e762e77656967687400f040c1a120a0"
        "e0c2a080e75e8017199381a2bbead551f8e822da0b139f93a4761f0dc2fa3d285d8254e146090020"
        "1609636f6e762e6269617300f0c0c3840a80d3b900376800159448017dae002d160966632e776569"
        "67687400f140c121a242a080e75e8016b95b140038c8a1dca89a3034307e2812e599e0001316096f"
        "6e6500f1c0c3810a80d3b9004320"
    ),
    (False, False, True): (
        "00040201000806810040008000060e00000000391609636f6e762e77656967687400f040c1a120a0"
        "e0c2a080e7830fa4d72ada07201c823c5cbee68e80fe3dfb635b582988159604d5caa00020160963"
        "6f6e762e6269617300f0c0c3840a80d3b900376800159448017dae002e160966632e776569676874"
        "00f140c121a242a080e74b23e7232001d1e6640222dd5f0c32f9be9d23420947d0001316096f6e65"
        "00f1c0c3810a80d3b9004320"
    ),
    (False, True, False): (
        "00040201000806810040008000060e000000003d1609636f6e762e77656967687400f040c1a120a0"
        "e0c2a080e7e4780247f9741d0f0797f5e5f1117de0ff56d0e7fd2b8ecae34be2b2ead96a14609000"
        "201609636f6e762e6269617300f0c0c3840a80d3b900376800159448017dae002c160966632e7765"
        "6967687400f140c121a242a080e81695802a72b62815e4a9f658d42015fb032fb0c270001316096f"
        "6e6500f1c0c3810a80d3b9004320"
    ),
    (False, True, True): (
        "00040201000806810040008000060e00000000391609636f6e762e77656967687400f040c1a120a0"
        "e0c2a080e7e7f0cf08ce73da3c0262c53cd8960f392f07e7edf197ec908159604d5caa0020160963"
        "6f6e762e6269617300f0c0c3840a80d3b900376800159448017dae002d160966632e776569676874"
        "00f140c121a242a080e816bd46b50225ad6b4080fd51d706e80b1ea2668247c0001316096f6e6500"
        "f1c0c3810a80d3b9004320"
    ),
    (True, False, False): (
        "00040201000806810040008000060e00000000361609636f6e762e77656967687400f041c1a120a0"
        "e0c2a080e75e80095046730005cf7f0f68e272a18010f7e65fa17fa3d619718000201609636f6e76"
        "2e6269617300f0c1c3840a80d3b90015dec02247100a9fe00028160966632e77656967687400f141"
        "c121a242a080e75e8008d57246ee74c752a3805439d94446001316096f6e6500f1c1c3810a80d3b9"
        "0018f8"
    ),
    (True, False, True): (
        "00040201000806810040008000060e00000000391609636f6e762e77656967687400f041c1a120a0"
        "e0c2a080e75e8e8119274fd5179858e9b742eedf631395534a850ab47c6d4a1d3ae4ea0020160963"
        "6f6e762e6269617300f0c1c3840a80d3b90015dec02247100a9fe0002f160966632e776569676874"
        "00f141c121a242a080e75f7a98b601c187e32b4a206047b2e962e6e04dd6422aa420001316096f6e"
        "6500f1c1c3810a80d3b90018f8"
    ),
    (True, True, False): (
        "00040201000806810040008000060e00000000361609636f6e762e77656967687400f041c1a120a0"
        "e0c2a080e7e47800e0653dc0005cf7f0f68e272a18010f7e65fa17fa3d61971800201609636f6e76"
        "2e6269617300f0c1c3840a80d3b90015dec02247100a9fe00027160966632e77656967687400f141"
        "c121a242a080e816958011156be02c25b1a7ef117e33e0001316096f6e6500f1c1c3810a80d3b900"
        "18f8"
    ),
    (True, True, True): (
        "00040201000806810040008000060e000000003a1609636f6e762e77656967687400f041c1a120a0"
        "e0c2a080e7e4797430a484e295cd097c083308961a4519715b288a8c3761f50840992b4000201609"
        "636f6e762e6269617300f0c1c3840a80d3b90015dec02247100a9fe0002d160966632e7765696768"
        "7400f141c121a242a080e8169589ee408b282adf66c1e90a56f1bb044698b7e9f0001316096f6e65"
        "00f1c1c3810a80d3b90018f8"
    ),
}
# By NNCodec 2.1.3, by `dependent`: three updates with temporal contexts and skipped rows.
UPDATES = {
    False: (
        (
            "00040201000806810840008000060e00000000491609636f6e762e77656967687400ac1188c1"
            "a120a0e0c2a080e77e3c000002fbcfe04936d80a49c601f8808dd80d94585d9c0ed78298e2bb"
            "0703e73096c4f6288e8d53287705fe00231609636f6e762e6269617300ac3188c3840a80d3b9"
            "00134000a11001a4035928e00028160966632e77656967687400ac5188c121a242a080e7974a"
            "c0085ed5b1402ebd5881b0d1849e001716096f6e6500ac7188c3810a80d3b9001340055ff0"
        ),
        (
            "00040201000806810840008000060e00000000431609636f6e762e77656967687400ac1298c1"
            "a120a0e0c2a080e77e3c000017c62c5114ec0239581eca014a0436de09e3c60f538391ac43fc"
            "3aaa4c7d524dcf0864002d160966632e77656967687400ac5298c121a242a080e7974ac002b0"
            "8e2003fe7ec874970d917ea26c01bb0f001716096f6e6500ac7298c3810a80d3b90005700531"
            "78"
        ),
        (
            "00040201000806810840008000060e00000000431609636f6e762e77656967687400ac1398c1"
            "a120a0e0c2a080e77e3c0000068cff1e2453847d880041c3cbe078612be93a2b5ff6429a6194"
            "faa0947ee3fba4e4ee00231609636f6e762e6269617300ac3298c3840a80d3b900057000c69c"
            "03f00491ffc00032160966632e77656967687400ac5398c121a242a080e7974ac002b0290096"
            "006f1de06c8213bf82a5ebf115f3442108d0001716096f6e6500ac7398c3810a80d3b9000570"
            "053178"
        ),
    ),
    True: (
        (
            "00040201000806810840008000060e000000003f1609636f6e762e77656967687400ac1189c1"
            "a120a0e0c2a080e77e3c00000fc4b10c007a8022002ec06146e197c46ca11d1f6604cfd9d47c"
            "dd377629c000211609636f6e762e6269617300ac3189c3840a80d3b900073801b2b6ee00bda4"
            "0026160966632e77656967687400ac5189c121a242a080e7974ac0044910d583205409c79180"
            "001716096f6e6500ac7189c3810a80d3b90007380affc0"
        ),
        (
            "00040201000806810840008000060e000000003c1609636f6e762e77656967687400ac1299c1"
            "a120a0e0c2a080e77e3c000090ccbf4a36f2a92a2a6edebfe66aa932b2d56a6b74097a6d71a5"
            "96b30028160966632e77656967687400ac5299c121a242a080e7974ac000abe57da1c9e141da"
            "6cf879e7001716096f6e6500ac7299c3810a80d3b9000148021098"
        ),
        (
            "00040201000806810840008000060e000000003c1609636f6e762e77656967687400ac1399c1"
            "a120a0e0c2a080e77e3c000050654f4c5562c3499819b59e0458da5979ea550aa3593f33534e"
            "8a4700211609636f6e762e6269617300ac3299c3840a80d3b9000148005395a719b095002c16"
            "0966632e77656967687400ac5399c121a242a080e7974ac000a6e98321a8c8af56b3615b6997"
            "908d60001716096f6e6500ac7399c3810a80d3b9000148021098"
        ),
    ),
}


def numbers(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Return the same peaky float32 numbers everywhere."""
    count = int(np.prod(shape))
    t = ((np.arange(count) * 2654435761 + seed * 40503 * 977) % 65521 - 32760) / 32768
    return (t * t * t * t * t * 0.25).astype(np.float32).reshape(shape)


def weights(seed: int, empty: str | None = None) -> dict[str, np.ndarray]:
    tensors = {
        "conv.weight": numbers((4, 2, 3, 3), seed),
        "conv.bias": numbers((4,), seed + 1) * 2,
        "fc.weight": numbers((6, 9), seed + 2),
        "one": numbers((1,), seed + 3),
    }
    tensors["fc.weight"][1::2] = 0
    if empty:
        tensors[empty] = tensors[empty] * 0
    return tensors


def qps(tensors: dict[str, np.ndarray]) -> dict[str, int]:
    return {name: -24 if tensor.ndim > 1 else -44 for name, tensor in tensors.items()}


def stream(header: TensorHeader | bytes, payload: bytes = b"", differential: bool = False) -> bytes:
    """Return a stream with one unit of a tensor, whatever it says."""
    model = put_model(ModelHeader(differential))
    head = header if isinstance(header, bytes) else put_tensor(header, differential)
    start = unit(0, b"\1") + unit(1, model) + unit(3, bytes(3))
    return start + unit(5, bytes(head) + payload)


def test_printed_stream() -> None:
    levels = {"w": np.array(W), "b": np.array(B)}
    assert write_model(levels, {"w": -16, "b": -75}, row_skip=True) == PLAIN
    model = read_model(PLAIN)
    assert not model.differential
    assert {name: t.levels.tolist() for name, t in model.tensors.items()} == {"w": W, "b": B}
    assert [t.qp for t in model.tensors.values()] == [-16, -75]
    assert [t.node for t in model.tensors.values()] == [Node(0, 0, 0), Node(0, 1, 0)]
    np.testing.assert_allclose(model.tensors["b"].values(), [0.5, -0.25, 0, 1], atol=2.4e-6)


def test_printed_updates() -> None:
    first = np.zeros((2, 4))
    second = first.copy()
    first[0] = [0.5, 0, -0.5, 0]
    second[0] = [0.5, 0.5, -1, 0]
    options: dict[str, Any] = {"differential": True, "device": 7, "row_skip": True}
    assert write_model({"w": first}, -4, **options) == FIRST
    levels = read_model(FIRST).tensors["w"].levels
    assert write_model({"w": second}, -4, bases={"w": levels}, depth=2, **options) == SECOND
    model = read_model(SECOND, bases={"w": levels})
    assert model.differential
    tensor = model.tensors["w"]
    assert tensor.temporal
    assert tensor.node == Node(7, 0, 2)
    np.testing.assert_array_equal(tensor.values(), second)
    with pytest.raises(BitstreamError, match=r"'w' needs the levels of its previous update"):
        read_model(SECOND)
    with pytest.raises(BitstreamError, match=r"shape \(2, 4\), its previous update \(4, 2\)"):
        read_model(SECOND, bases={"w": levels.reshape(4, 2)})


@pytest.mark.parametrize("options", MODELS)
def test_models_of_the_reference(options: tuple[bool, bool, bool]) -> None:
    dependent, row_skip, search = options
    tensors = weights(7, "one" if row_skip else None)
    expected = bytes.fromhex(MODELS[options])
    written = write_model(
        *(tensors, qps(tensors)),
        dependent=dependent,
        row_skip=row_skip,
        search_init=search,
        device=1,
    )
    assert written == expected
    model = read_model(expected)
    for name, tensor in model.tensors.items():
        assert tensor.dependent == dependent
        step = 2.0**-6 if tensor.levels.ndim > 1 else 2.0**-11
        np.testing.assert_allclose(tensor.values(), tensors[name], atol=step * (1 + dependent))


@pytest.mark.parametrize("dependent", UPDATES)
def test_updates_of_the_reference(dependent: bool) -> None:
    previous: dict[str, np.ndarray] = {}
    depth: dict[str, int] = {}
    for step, expected in enumerate(UPDATES[dependent]):
        tensors = weights(20, "conv.bias" if step == 1 else None)
        tensors["fc.weight"] *= 1 + step
        tensors["conv.weight"] += numbers((4, 2, 3, 3), step) * np.float32(0.5)
        present = {name for name, tensor in tensors.items() if tensor.any()}
        depth = {name: depth.get(name, 0) + (name in present) for name in tensors}
        written = write_model(
            *(tensors, qps(tensors)),
            dependent=dependent,
            row_skip=True,
            differential=True,
            bases=previous,
            device=3,
            depth=depth,
        )
        assert written.hex() == expected
        shapes = {name: tensor.shape for name, tensor in tensors.items()}
        model = read_model(written, shapes=shapes, bases=previous)
        assert list(model.tensors) == list(tensors)
        assert {name for name, tensor in model.tensors.items() if tensor.node} == present
        for name in set(tensors) - present:
            assert not model.tensors[name].values().any()
        previous |= {name: model.tensors[name].levels for name in present}


@pytest.mark.skipif(
    importlib.util.find_spec("nncodec") is None,
    reason="nncodec 2.1.3 is not installed; it needs numpy < 2, a compiler and its own environment",
)
def test_live_reference(tmp_path: Any, capsys: Any) -> None:
    from nncodec import nnc  # type: ignore[import-not-found,unused-ignore]

    tensors = {"w": numbers((60, 40, 3), 1), "b": numbers((700,), 2), "n": numbers((5, 1), 3)}
    for dependent in (False, True):
        theirs = nnc.compress(
            dict(tensors),
            bitstream_path=str(tmp_path / "x.nnc"),
            return_bitstream=True,
            qp=-30,
            nonweight_qp=-44,
            use_dq=dependent,
            row_skipping=True,
        )
        own_qps = {"w": -30, "b": -44, "n": -30}
        options: dict[str, Any] = {"dependent": dependent, "row_skip": True}
        ours = write_model(tensors, own_qps, search_init=True, **options)
        assert ours == bytes(theirs)
        best = write_model(tensors, own_qps, search_init="best", **options)
        decoded = nnc.decompress(bytearray(best))
        for name, tensor in read_model(best).tensors.items():
            np.testing.assert_array_equal(decoded[name], tensor.values())


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_round_trip(data: st.DataObject) -> None:
    names = data.draw(st.lists(st.text("aB.é_0/", max_size=5), max_size=4, unique=True))
    draw = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    levels = {}
    for name in names:
        shape = tuple(data.draw(st.lists(st.integers(0, 5), max_size=4)))
        top = data.draw(st.sampled_from([0, 1, 2**31 - 1]))
        levels[name] = draw.integers(-top - (top > 1), top, shape, endpoint=True)
    density = data.draw(st.integers(0, 7))
    qp = data.draw(st.integers(-(32 << density), (32 << density) - 1))
    differential = data.draw(st.booleans())
    bases = {name: levels[name] // 3 for name in names[::2] if differential}
    options: dict[str, Any] = {
        "density": density,
        "row_skip": data.draw(st.booleans()),
        "search_init": data.draw(st.booleans()),
        "differential": differential,
        "bases": bases,
        "device": data.draw(st.integers(0, 1000)),
        "depth": data.draw(st.integers(0, 1000)),
    }
    written = write_model(levels, qp, **options)
    assert write_model(levels, qp, threads=2, **options) == written
    shapes = {name: array.shape for name, array in levels.items()}
    for threads in (1, 2):
        model = read_model(written, shapes=shapes, bases=bases, threads=threads)
        assert model.differential == differential
        assert list(model.tensors) == names
        for name, tensor in model.tensors.items():
            np.testing.assert_array_equal(tensor.levels, levels[name])
            assert tensor.qp == (qp if tensor.node else None)
            assert tensor.node or not levels[name].any()


def test_long_unit() -> None:
    levels = np.random.default_rng(3).integers(-99, 99, (40, 1500))
    written = write_model({"w": levels, "v": levels[:1]}, -8)
    assert len(written) > 1 << 15
    model = read_model(written)
    np.testing.assert_array_equal(model.tensors["w"].levels, levels)
    np.testing.assert_array_equal(model.tensors["v"].levels, levels[:1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"qp": 128}, "qp 128 cannot be signalled at qp density 2; use -128 to 127"),
        ({"qp": {}}, "qp has no entry for tensor 'w'"),
        ({"depth": {"v": 1}}, "depth has no entry for tensor 'w'"),
        ({"parameters": {}}, "parameters has no entry for tensor 'w'"),
        ({"dependent": ["v"]}, "dependent names 'v', which is not among the tensors"),
        ({"differential": True, "bases": {"v": [1]}}, "bases names 'v'"),
        ({"bases": {"w": [1, 1]}}, "need differential=True"),
        ({"device": -1}, "-1 is out of the range"),
        ({"density": 8}, "qp density 8 is impossible"),
        ({"tensors": {"a\0b": [1]}}, "null character"),
        ({"tensors": {"\ud800": [1]}}, "no UTF-8 form"),
        ({"tensors": {"w": [np.nan]}}, "nan at position 0 cannot be quantised"),
        ({"tensors": {"w": [1e30]}}, r"raise the step to .* \(qp 275\)"),
        ({"tensors": {"w": [1j]}}, "tensor 'w': .* give real numbers"),
        ({"tensors": {"v": [1], "w": [2**31]}}, "tensor 'w': levels from .* do not fit"),
        ({"search_init": "referense"}, "tensor 'w': search_init 'referense' is not known"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    given = {"tensors": {"w": [1, 2]}, "qp": 0} | arguments
    tensors = {name: np.array(values) for name, values in given.pop("tensors").items()}
    bases = {name: np.array(values) for name, values in given.pop("bases", {}).items()}
    with pytest.raises(CodecError, match=message):
        write_model(tensors, given.pop("qp"), bases=bases, **given)


@pytest.mark.skipif(np.lib.NumpyVersion(np.__version__) < "2.0.0", reason="numpy has 32 axes")
def test_more_axes_than_a_reader_takes() -> None:
    with pytest.raises(CodecError, match="tensor 'w': 33 dimensions are too many; 32"):
        write_model({"w": np.ones((1,) * 33, int)}, 0)


def edited(position: int, value: int, bits: int = 1, differential: bool = False) -> bytes:
    """Return the stream of a 4 × 6 tensor with some bits of its unit's body replaced."""
    header = TensorHeader("w", (4, 6), Node(0, 0, 1), 0 if differential else None)
    body = bytearray(put_tensor(header, differential))
    whole = int.from_bytes(body, "big")
    shift = 8 * len(body) - position - bits
    mask = (1 << bits) - 1
    whole = whole & ~(mask << shift) | value << shift
    return stream(whole.to_bytes(len(body), "big"), bytes(20), differential)


# Positions in the header: 8 bits, "w" and null, node id (14 bits), [parent (6)], codebook …
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (edited(0, 0, 5), r"integer \(NNR_PT_INT\)"),
        (edited(0, 2, 5), r"raw float \(NNR_PT_RAW_FLOAT\)"),
        (edited(0, 3, 5), "NNR_PT_BLOCK"),
        (edited(0, 9, 5), "payload type 9"),
        (edited(5, 1), "several elements"),
        (edited(6, 1), "decompressed data format"),
        (edited(7, 0), "without input parameters"),
        (edited(39, 2, 2, True), "parent of tensor 'w' named by a hash"),
        (edited(38, 1), "codebook of tensor 'w'"),
        (edited(40, 0), "dimensions of tensor 'w' from a topology"),
        (edited(42, 2, 4), "compressed parameters of tensor 'w'"),
        (edited(74, 0b11, 2), "shifted first dimension of tensor 'w'"),
        (edited(76, 1, 4), "scan order above 0 of tensor 'w'"),
        (edited(80, 0), "fill bits"),
        (PLAIN[:3] + b"\0" + PLAIN[4:], "profile 00 is not supported"),
        (PLAIN[:4] + PLAIN[12:], "a unit TPL where MPS must be"),
        (PLAIN[:6] + b"\x0a" + PLAIN[7:], "a unit LPS where MPS must be"),
        (PLAIN[:20] + b"\x12" + PLAIN[21:], "a unit QNT where NDU must be"),
        (PLAIN[:20] + b"\x1a" + PLAIN[21:], "a unit AGG where NDU must be"),
        (PLAIN[:20] + b"\x14" + PLAIN[21:], "depends on others"),
        (PLAIN[:20] + b"\x17" + PLAIN[21:], "partial data"),
        (PLAIN[:7] + b"\x82" + PLAIN[8:], "quantisation method 2"),
        (PLAIN[:7] + b"\xc1" + PLAIN[8:], "a sparsification performance map"),
        (PLAIN[:7] + b"\x01" + PLAIN[8:], "without topology unit"),
        (PLAIN[:8] + b"\x80" + PLAIN[9:], "topology-indexed reference"),
        (PLAIN[:8] + b"\x04" + PLAIN[9:], "predictive residual"),
        (PLAIN[:8] + b"\x01" + PLAIN[9:], "reserved bits"),
        (PLAIN[:16] + b"\1" + PLAIN[17:], "topology compression 1"),
        (PLAIN[:12] + b"\x00\x07\x0e\x03\x00p\0" + PLAIN[18:], r"a topology .*format 3"),
        (PLAIN[:4], "ends before its unit MPS"),
        (b"", "ends before its unit STR"),
        (PLAIN[:-1], "the unit at byte 43 claims 35 bytes; 34 bytes are left"),
        (PLAIN + PLAIN[43:], "tensor 'b' is in the stream twice"),
        (PLAIN + b"\0", "claims 0 bytes; 1 bytes are left"),
        (stream(b"\x09w\0"), "ends within its header"),
        (stream(b"\x09w"), "a name in a header has no end"),
        (stream(b"\x09\xff\0"), "not UTF-8"),
        (stream(b"\x09w\0" + bytes(9)), "dimensions of tensor 'w' from a topology"),
        (stream(b"\x09w\0\x80" + bytes(9)), "over 40 zeros"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refused(data: bytes, message: str) -> None:
    with pytest.raises(BitstreamError, match=message):
        read_model(data)


def test_sizes_are_checked_before_memory_is_taken() -> None:
    writer = PayloadWriter()
    writer.put_bits(0, 8)
    payload = writer.finish()
    cases: list[tuple[tuple[int, ...], dict[str, Any], str]] = [
        ((1 << 20, 1 << 20), {}, "have more than the 134217728 elements"),
        ((1 << 40, 0), {}, "have more than the 134217728 elements"),
        ((0, 1 << 40), {}, "have more than the 134217728 elements"),
        ((4, 6), {"max_elements": 23}, "have more than the 23 elements"),
        ((4, 6), {"shapes": {"w": (6, 4)}}, r"has shape \(4, 6\); \(6, 4\) is expected"),
        ((4, 6), {"shapes": {"v": (4, 6)}}, "'w' is not one of those expected"),
        ((1,) * 33, {}, "33 dimensions of tensor 'w' are too many"),
    ]
    tracemalloc.start()
    try:
        for shape, options, message in cases:
            data = stream(TensorHeader("w", shape, Node(0, 0, 0)), payload)
            with pytest.raises(BitstreamError, match=message):
                read_model(data, **options)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    with pytest.raises(BitstreamError, match="the stream has no tensor 'v'"):
        read_model(PLAIN, shapes={"w": (4, 6), "b": (4,), "v": (1,)})
    with pytest.raises(BitstreamError, match="tensor 'w': the payload is empty"):
        read_model(stream(TensorHeader("w", (2,), Node(0, 0, 0))))
    assert read_model(PLAIN, max_elements=28).tensors["w"].levels.shape == (4, 6)


def test_qp_of_a_model_out_of_range() -> None:
    body = PLAIN[18:43]
    model = put_model(ModelHeader(density=2, qp=-4096))
    data = unit(0, b"\1") + unit(1, model) + unit(3, bytes(3)) + body
    with pytest.raises(BitstreamError, match="tensor 'w': qp -4112 is out of range"):
        read_model(data)


def mutated(data: bytes, draw: np.random.Generator) -> bytes:
    """Return damaged bytes: cut, flipped, overwritten, repeated or removed."""
    broken = bytearray(data)
    kind = draw.integers(5)
    at = int(draw.integers(len(broken)))
    if kind == 0:
        return bytes(broken[:at])
    if kind == 1:
        for place in draw.integers(0, 8 * len(broken), draw.integers(1, 4)).tolist():
            broken[place // 8] ^= 1 << place % 8
    elif kind == 2:
        broken[at : at + 4] = draw.bytes(int(draw.integers(1, 9)))
    elif kind == 3:
        broken[at:at] = broken[at : at + int(draw.integers(1, 40))]
    else:
        del broken[at : at + int(draw.integers(1, 9))]
    return bytes(broken)


def test_mutations() -> None:
    update = bytes.fromhex(UPDATES[True][1])
    shapes = {name: tensor.shape for name, tensor in weights(20).items()}
    first = read_model(bytes.fromhex(UPDATES[True][0]))
    bases = {name: tensor.levels for name, tensor in first.tensors.items()}
    cases: list[tuple[bytes, dict[str, Any]]] = [
        (PLAIN, {}),
        (PLAIN, {"max_elements": 100_000}),
        (bytes.fromhex(MODELS[True, True, True]), {"shapes": shapes}),
        (bytes.fromhex(MODELS[False, True, False]), {}),
        (update, {"shapes": shapes, "bases": bases}),
        (update, {"bases": bases, "max_elements": 1000}),
    ]
    # A flipped flag may call for any of the loops: this one is in none of the cases.
    ones = np.ones((2, 2), np.int32)
    decode_levels(encode_levels(ones, base=ones), (2, 2), base=ones)
    draw = np.random.default_rng(17)
    refused, slowest = 0, 0.0
    for data, options in cases:
        read_model(data, **options)
        for _ in range(500):
            start = time.perf_counter()
            try:
                model = read_model(mutated(data, draw), **options)
            except BitstreamError:
                refused += 1
            else:
                check(model, options)
            slowest = max(slowest, time.perf_counter() - start)
    assert refused > 2000
    assert slowest < 1


def check(model: Model, options: dict[str, Any]) -> None:
    """Assert that what was decoded from damaged bytes is at least a model as allowed."""
    elements = sum(tensor.levels.size for tensor in model.tensors.values())
    assert elements <= options.get("max_elements", 1 << 27)
    for name, tensor in model.tensors.items():
        assert np.isfinite(tensor.values()).all()
        if "shapes" in options:
            assert tensor.levels.shape == options["shapes"][name]


@given(st.lists(st.tuples(st.integers(0, 2**40), st.integers(0, 8)), max_size=9))
def test_header_numbers(numbers: list[tuple[int, int]]) -> None:
    writer = BitWriter()
    for value, order in numbers:
        writer.golomb(value, order)
        writer.uint(-1 - order, 13)
    writer.align()
    reader = BitReader(bytes(writer.data))
    for value, order in numbers:
        assert reader.golomb(order) == value
        assert reader.sint(13) == -1 - order
    reader.align()
    assert reader.left == 0
