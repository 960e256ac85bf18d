"""The NNC payload coder: known payloads, round trips, wrong arguments, hostile bytes."""

from __future__ import annotations

import hashlib
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcomp.coding.nnc import PayloadReader, PayloadWriter, decode_levels, encode_levels
from fedcomp.coding.nnc_tables import LPS_RANGES, PACKED_TRELLIS
from fedcomp.errors import BitstreamError, CodecError

VECTORS: list[dict[str, Any]] = json.loads(
    Path(__file__).with_name("test_nnc_vectors.json").read_text()
)["vectors"]
GRID = [[0, 1, 0, -1], [0, 0, 0, 0]]


def dependent_levels(indices: np.ndarray) -> np.ndarray:
    """Turn indices k of the 8-state quantiser into r = 2k − sgn(k)·(state & 1)."""
    levels, state = np.zeros(indices.size, np.int64), 0
    for i, k in enumerate(indices.ravel().tolist()):
        levels[i] = 2 * k - (k > 0) * (state & 1) + (k < 0) * (state & 1)
        state = PACKED_TRELLIS >> (8 * state + 4 * (k & 1)) & 7
    return levels.reshape(indices.shape).astype(np.int32)


def test_lps_table_is_the_standards() -> None:
    digest = hashlib.sha256(LPS_RANGES).hexdigest()
    assert digest == "7cb43947a211dd1b4708275b3c3b34d44cb6a61908e1f703174b7287de265e8d"


@pytest.mark.parametrize("kind", sorted({vector["kind"] for vector in VECTORS}))
def test_vectors(kind: str) -> None:
    for vector in VECTORS:
        if vector["kind"] != kind:
            continue
        levels = np.array(vector["levels"], np.int32).reshape(vector["shape"])
        base = np.array(vector["base"]).reshape(levels.shape) if "base" in vector else None
        dependent = bool(vector["dependent"])
        options = {"row_skip": bool(vector["row_skip"]), "dependent": dependent, "base": base}
        search = bool(vector["search"])
        payload = bytes.fromhex(vector["payload"])
        assert encode_levels(levels, search_init=search, **options) == payload
        decoded = decode_levels(payload, levels.shape, dependent=dependent, base=base)
        assert decoded.dtype == np.int32
        np.testing.assert_array_equal(decoded, levels)


def test_own_search_is_not_larger_than_the_references() -> None:
    ours = theirs = 0
    for vector in VECTORS:
        if vector["kind"] == "dq_paramopt":
            levels = np.array(vector["levels"], np.int32).reshape(vector["shape"])
            row_skip = bool(vector["row_skip"])
            own = encode_levels(levels, row_skip=row_skip, dependent=True, search_init="best")
            ours, theirs = ours + len(own), theirs + len(vector["payload"]) // 2
    assert ours < theirs


@pytest.mark.parametrize(
    ("levels", "options", "payload"),
    [
        ([0, 0, 0, 0], {}, "8d002924"),
        ([1, -1, 2, -3, 0, 12, -13, 200], {}, "8d001cb591594a8e6709467fc0"),
        (GRID, {}, "468021499f"),
        (GRID, {"row_skip": True}, "f4500647fe"),
        (GRID, {"base": [[0, 2, 0, -1], [1, 0, 0, 0]]}, "234003cac5c0"),
        ([2, -2, 0, 4, 3, 0, 1, -4], {"dependent": True}, "8d000b3fc1cde0"),
    ],
)
def test_printed_payloads(levels: list[Any], options: dict[str, Any], payload: str) -> None:
    array = np.array(levels)
    if "base" in options:
        options = options | {"base": np.array(options["base"])}
    assert encode_levels(array, **options).hex() == payload
    options = {key: value for key, value in options.items() if key != "row_skip"}
    np.testing.assert_array_equal(
        decode_levels(bytes.fromhex(payload), array.shape, **options), array
    )


def test_step_size_before_the_tensor() -> None:
    writer = PayloadWriter()
    writer.put_bits(-38, 8)
    writer.put_levels(np.array(GRID), row_skip=True)
    payload = writer.finish()
    assert payload.hex() == "da1a500647fe"
    reader = PayloadReader(payload)
    assert reader.get_bits(8, signed=True) == -38
    assert reader.get_levels((2, 4)).tolist() == GRID
    reader.finish()


def test_tensors_of_one_code_word_and_other_flag_counts() -> None:
    rng = np.random.default_rng(1)
    tensors = [rng.integers(-40, 40, shape) for shape in ((3, 5), (7,), (), (0,), (2, 3, 4))]
    for flags in (1, 2, 11, 12, 256):
        writer = PayloadWriter(flags)
        for number, tensor in enumerate(tensors):
            writer.put_bits(number, 32)
            writer.put_levels(tensor, search_init=bool(number % 2), parent=number == 0)
        reader = PayloadReader(writer.finish(), flags)
        for number, tensor in enumerate(tensors):
            assert reader.get_bits(32) == number
            decoded = reader.get_levels(tensor.shape, parent=number == 0)
            np.testing.assert_array_equal(decoded, tensor)
        reader.finish()


SHAPES = [(), (0,), (1,), (5,), (0, 4), (4, 0), (1, 9), (9, 1), (3, 8), (2, 3, 2, 2), (40, 7)]
OPTIONS = st.fixed_dictionaries(
    {
        "row_skip": st.booleans(),
        "search_init": st.sampled_from([False, True, "best"]),
        "dependent": st.booleans(),
    }
)


@settings(max_examples=300, deadline=None)
@given(
    shape=st.sampled_from(SHAPES),
    options=OPTIONS,
    with_base=st.booleans(),
    scale=st.sampled_from([0, 1, 3, 30, 10**4, 2**31 - 1]),
    density=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    seed=st.integers(0, 2**32 - 1),
)
def test_round_trip(
    shape: tuple[int, ...],
    options: dict[str, Any],
    with_base: bool,
    scale: int,
    density: float,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    levels = rng.integers(-scale - (scale > 2**30), scale, shape, endpoint=True)
    levels = np.where(rng.random(shape) < density, levels, 0)
    if options["dependent"]:
        levels = dependent_levels(levels // 2)
    base = rng.integers(-3, 4, shape) * (rng.random(shape) < 0.5) if with_base else None
    payload = encode_levels(levels, base=base, **options)
    decoded = decode_levels(payload, shape, dependent=options["dependent"], base=base)
    assert decoded.shape == shape
    np.testing.assert_array_equal(decoded, levels)


def test_extremes() -> None:
    limits = np.array([-(2**31), 2**31 - 1, 0, -(2**31) + 1, 2**31 - 2] * 50, np.int32)
    for levels in (limits, limits.reshape(25, 10), limits[:1], limits[0]):
        payload = encode_levels(levels, row_skip=True, search_init=True)
        np.testing.assert_array_equal(decode_levels(payload, levels.shape), levels)
    even = np.array([-(2**31), 2**31 - 2], np.int32)
    payload = encode_levels(even, dependent=True)
    np.testing.assert_array_equal(decode_levels(payload, (2,), dependent=True), even)


@pytest.mark.parametrize("density", [0.0, 1e-4, 0.004, 0.04, 0.7])
@pytest.mark.parametrize("search", [False, True])
def test_long_rows(density: float, search: bool) -> None:
    rng = np.random.default_rng(3)
    levels = np.rint(rng.laplace(0, 2, (3, 70_000))) * (rng.random((3, 70_000)) < density)
    levels = levels.astype(np.int32)
    for view in (levels.ravel(), levels, levels.T, np.asfortranarray(levels)):
        payload = encode_levels(view, row_skip=True, search_init=search)
        np.testing.assert_array_equal(decode_levels(payload, view.shape), view)


def test_output_grows_for_expensive_levels() -> None:
    levels = np.random.default_rng(4).integers(-(2**31), 2**31, 50_000).astype(np.int32)
    payload = encode_levels(levels)
    assert len(payload) > levels.nbytes
    np.testing.assert_array_equal(decode_levels(payload, levels.shape), levels)


def test_integer_types_and_read_only_input() -> None:
    levels = np.array([3, 0, 1, 0, 7], np.int32)
    expected = encode_levels(levels)
    levels.flags.writeable = False
    assert encode_levels(levels) == expected
    for kind in (np.int8, np.uint8, np.int64, np.uint64, ">i4"):
        assert encode_levels(levels.astype(kind)) == expected
    for data in (bytearray(expected), memoryview(expected)):
        np.testing.assert_array_equal(decode_levels(data, (np.int64(5),)), levels)


def test_threads_give_the_same_bytes() -> None:
    rng = np.random.default_rng(5)
    tensors = [rng.integers(-2, 3, 20_000).astype(np.int32) for _ in range(8)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(encode_levels, tensors)) == [encode_levels(x) for x in tensors]


def test_wrong_arguments() -> None:
    with pytest.raises(CodecError, match="array of integers, not of float64"):
        encode_levels(np.zeros(3))
    with pytest.raises(CodecError, match="array of integers, not of bool"):
        encode_levels(np.zeros(3, bool))
    with pytest.raises(CodecError, match="from 0 to 2147483648 do not fit"):
        encode_levels(np.array([0, 2**31]))
    with pytest.raises(CodecError, match="base has shape"):
        encode_levels(np.zeros((2, 3), int), base=np.zeros((3, 2), int))
    with pytest.raises(CodecError, match="base must be an array of integers"):
        decode_levels(b"\x8d", (3,), base=np.zeros(3))
    with pytest.raises(CodecError, match="level 3 at position 1 is impossible in state 0"):
        encode_levels(np.array([0, 3]), dependent=True, search_init=True)
    with pytest.raises(CodecError, match="level -2 at position 2 is impossible in state 3"):
        # odd indices lead from state 0 to 2 and on to 3, which takes odd levels
        encode_levels(np.array([2, -2, -2]), dependent=True)
    with pytest.raises(CodecError, match="negative side"):
        decode_levels(b"\x8d", (-3,))
    for shape in ((2**62, 2**62, 0), (2**61,), (0, 2**61), (1,) * 65):
        with pytest.raises(CodecError, match=r"shape \(.*\) is impossible; 64 axes"):
            decode_levels(b"\x8d", shape)
    for search in ("referense", "", None, 2):
        with pytest.raises(CodecError, match=f"search_init {search!r} is not known"):
            encode_levels(np.zeros(3, int), search_init=search)  # type: ignore[arg-type]
    with pytest.raises(CodecError, match="does not fit into 8 bits"):
        PayloadWriter().put_bits(256, 8)
    with pytest.raises(CodecError, match="cannot read 33 bits"):
        PayloadReader(b"\x8d").get_bits(33)
    for flags in (0, 257):
        with pytest.raises(CodecError, match="greater-than flags"):
            PayloadWriter(flags)


def test_a_finished_payload_takes_nothing_more() -> None:
    writer = PayloadWriter()
    writer.put_levels(np.arange(5))
    payload = writer.finish()
    for put in (
        writer.finish,
        lambda: writer.put_bits(1, 1),
        lambda: writer.put_levels(np.arange(5)),
        lambda: writer.put_levels(np.ones((2, 2), int), row_skip=True, search_init=True),
    ):
        with pytest.raises(CodecError, match="code-word is finished"):
            put()
    np.testing.assert_array_equal(decode_levels(payload, (5,)), np.arange(5))


def test_as_many_axes_as_numpy_has() -> None:
    levels = np.ones((1,) * 64, np.int32)
    np.testing.assert_array_equal(decode_levels(encode_levels(levels), levels.shape), levels)


def test_named_damage() -> None:
    payload = encode_levels(np.arange(-20, 20))
    with pytest.raises(BitstreamError, match="is empty"):
        decode_levels(b"", (4,))
    with pytest.raises(BitstreamError, match="no code-word starts"):
        decode_levels(b"\xff\xff\xff", (4,))
    with pytest.raises(BitstreamError, match="truncated"):
        decode_levels(payload[:20], (40,))
    with pytest.raises(BitstreamError, match="bytes follow"):
        decode_levels(payload + b"\0", (40,))
    with pytest.raises(BitstreamError, match="stop bit"):
        decode_levels(payload[:-1] + bytes([payload[-1] | 1]), (40,))
    with pytest.raises(BitstreamError, match="terminate"):
        decode_levels(payload, (38,))
    base = np.ones((2, 4), int)
    writer = PayloadWriter()
    writer.put_bits(1, 1)
    writer.put_levels(base, parent=False)
    with pytest.raises(BitstreamError, match="HDSP"):
        decode_levels(writer.finish(), (2, 4), base=base)


def test_levels_beyond_int32() -> None:
    """Single flipped bits of the largest level reach either end of the exponential-Golomb code."""
    largest = np.array([2**31 - 1], np.int32)
    payload = bytearray(encode_levels(largest))
    seen = set()
    for at in range(len(payload)):
        for bit in range(8):
            damaged = bytearray(payload)
            damaged[at] ^= 1 << bit
            try:
                decode_levels(damaged, (1,))
            except BitstreamError as error:
                seen.add(str(error).split(" at ")[0])
    assert "a level is beyond int32" in seen
    assert "the exponential-Golomb prefix of a level is too long" in seen


@pytest.mark.parametrize("kind", sorted({vector["kind"] for vector in VECTORS}))
def test_mutations_end_in_an_error_or_in_levels(kind: str) -> None:
    rng = np.random.default_rng(6)
    vectors = [vector for vector in VECTORS if vector["kind"] == kind]
    errors = 0
    for trial in range(600):
        vector = vectors[trial % len(vectors)]
        shape = tuple(vector["shape"])
        base = np.array(vector["base"]).reshape(shape) if "base" in vector else None
        data = bytearray.fromhex(vector["payload"])
        if trial % 3 == 0:
            del data[int(rng.integers(len(data))) :]
        elif trial % 3 == 1:
            for at in rng.integers(len(data), size=rng.integers(1, 4)):
                data[at] ^= 1 << int(rng.integers(8))
        else:
            data = bytearray(rng.bytes(int(rng.integers(1, 60))))
        try:
            levels = decode_levels(data, shape, dependent=bool(vector["dependent"]), base=base)
        except BitstreamError:
            errors += 1
        else:
            assert levels.shape == shape
    assert errors > 500


def test_a_huge_shape_does_not_hang() -> None:
    for data in (encode_levels(np.zeros(1000, int)), b"\x00", b"\x00" * 50, b"\x80" * 50):
        for shape in ((200_000_000,), (10_000_000, 20)):
            start = time.perf_counter()
            with pytest.raises(BitstreamError):
                decode_levels(data, shape)
            assert time.perf_counter() - start < 1
