from __future__ import annotations

import errno
import json
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedcomp.codecs.cast import Cast
from fedcomp.codecs.nnc import Nnc
from fedcomp.errors import LinkError
from fedcomp.link import file_store, part_files
from fedcomp.link.file_store import FileStateStore
from fedcomp.link.server import ServerLink
from fedcomp.link.state import ClientState, Pending
from tests.common import equal
from tests.link.common import (
    BIG,
    accept,
    big,
    client,
    deliver,
    files,
    full_state,
    publish,
    serve,
    session,
    state,
    train,
)

AGREED = session(up=Nnc(qp=None, step=0.02, temporal=True), down=Cast(), manifest=BIG)


def waiting(folder: Path) -> tuple[ServerLink, FileStateStore, Path]:
    """Return a server and a client with a state of all parts, whose last answer was lost."""
    server, store = serve(AGREED), FileStateStore(folder)
    for number in (1, 2):
        link = client(AGREED, store)
        deliver(server, link, number)
        blob, _ = train(link, number)
        if number == 1:
            accept(server, link, blob, number)
            publish(server, big(7), number, "0")
    server.begin()
    return server, store, folder / "sites" / "0"


def check_goes_on(server: ServerLink, store: FileStateStore) -> list[str]:
    """Let the client take part in two more rounds; return the kinds of the messages."""
    kinds: list[str] = []
    for number in (3, 4):
        link = client(AGREED, store)
        try:
            kinds.append(deliver(server, link, number).kind)
        except LinkError:
            server.forget("0")
            kinds.append(deliver(server, link, number).kind)
        assert equal(link.received, server.public)
        accept(server, link, train(link, number)[0], number)
        publish(server, server.exact, number, "0")
    return kinds


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"\xff\xfe\x00garbage", b"null", b"[]", b"5", b'"text"', b"{}", b"\0" * 100],
)
def test_a_damaged_index_is_no_state(tmp_path: Path, text: bytes) -> None:
    server, store, folder = waiting(tmp_path)
    (folder / "state.json").write_bytes(text)
    assert store.seen("0") is None
    assert store.load("0") is None
    assert not folder.exists()
    assert check_goes_on(server, store) == ["keyframe", "delta"]


def test_an_index_torn_anywhere_is_no_state(tmp_path: Path) -> None:
    whole = len((waiting(tmp_path / "0")[2] / "state.json").read_bytes())
    store = FileStateStore(tmp_path / "1")
    for length in range(0, whole, 25):
        store.save("0", full_state(1))
        path = tmp_path / "1" / "sites" / "0" / "state.json"
        path.write_bytes(path.read_bytes()[:length])
        assert store.load("0") is None


def fields_of(index: dict[str, Any]) -> list[tuple[str, ...]]:
    inner = [
        (key, name) for key, value in index.items() if isinstance(value, dict) for name in value
    ]
    return [*((key,) for key in index), *inner]


@pytest.mark.parametrize("value", [None, 5, 0, True, False, 1.5, [], {}, ["x"], {"x": 1}, "zz"])
def test_a_field_of_a_wrong_type_keeps_no_client_out(tmp_path: Path, value: object) -> None:
    _, _, folder = waiting(tmp_path / "0")
    for number, keys in enumerate(fields_of(json.loads((folder / "state.json").read_text())), 1):
        if value is None and keys[-1] in ("pending", "residual", "decoded", "blob", "symbols"):
            continue  # this is how their absence is written
        server, store, folder = waiting(tmp_path / str(number))
        index = json.loads((folder / "state.json").read_text())
        (index[keys[0]] if len(keys) == 2 else index)[keys[-1]] = value
        (folder / "state.json").write_text(json.dumps(index))
        assert len(check_goes_on(server, store)) == 2, keys


def test_a_missing_field_is_no_state(tmp_path: Path) -> None:
    _, store, folder = waiting(tmp_path)
    index = json.loads((folder / "state.json").read_text())
    for keys in fields_of(index):
        folder.mkdir(exist_ok=True)
        less = json.loads(json.dumps(index))
        del (less[keys[0]] if len(keys) == 2 else less)[keys[-1]]
        (folder / "state.json").write_text(json.dumps(less))
        assert store.load("0") is None


SHORTER: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "half": lambda data: data[: len(data) // 2],
    "one byte less": lambda data: data[:-1],
}


def parts_of(found: ClientState) -> dict[str, object]:
    pending = found.pending or Pending(b"", b"")
    return {
        "residual": found.residual.tensors,
        "decoded": pending.decoded.tensors,
        "blob": pending.blob,
        "symbols": pending.symbols,
        "previous": found.previous.payload,
    }


@pytest.mark.parametrize("cut", [*SHORTER, "gone"])
@pytest.mark.parametrize("part", ["residual", "decoded", "blob", "symbols", "previous"])
def test_a_damaged_part_is_not_used(tmp_path: Path, part: str, cut: str) -> None:
    server, store, folder = waiting(tmp_path)
    index = json.loads((folder / "state.json").read_text())
    names = {**index["pending"], "residual": index["residual"]}
    path = folder / {**names, "previous": index["previous"]["symbols"]}[part]
    if cut == "gone":
        path.unlink()
    else:
        path.write_bytes(SHORTER[cut](path.read_bytes()))
    found = store.load("0")
    assert found is None or not parts_of(found)[part]
    assert len(check_goes_on(server, store)) == 2


@pytest.mark.parametrize("damage", ["truncate", "flip"])
def test_a_damaged_model_is_lost_and_the_residual_is_not(damage: str, tmp_path: Path) -> None:
    store = FileStateStore(tmp_path)
    store.save("a", full_state(1))
    (path,) = (tmp_path / "models").iterdir()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data[: len(data) // 2] if damage == "truncate" else data)
    found = store.load("a")
    assert found is not None
    assert (found.version, found.model) == (b"", {})
    assert found.residual.tensors["w"][0, 0] == -1
    store.save("a", full_state(1))
    again = store.load("a")
    assert again is not None
    assert again.version == state(1).version


@pytest.mark.parametrize("code", [errno.EMFILE, errno.EIO, errno.EACCES, errno.ENOMEM])
@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (Path, "read_text"),
        (Path, "read_bytes"),
        (file_store, "load_file"),
        (part_files, "safe_open"),
    ],
)
def test_an_error_of_the_machine_is_raised_and_removes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, code: int
) -> None:
    server, store, _ = waiting(tmp_path)
    before = files(tmp_path)

    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    sent, fields = server.downlink("0")
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fail)
        with pytest.raises(OSError, match=os.strerror(code)):
            store.load("0")
        with pytest.raises(OSError, match=os.strerror(code)):
            client(AGREED, store).open(sent.blob, fields, 3)
        if name == "read_text":
            with pytest.raises(OSError, match=os.strerror(code)):
                store.seen("0")
    assert files(tmp_path) == before
    assert "keyframe" not in check_goes_on(server, store)


def test_a_process_without_free_file_numbers_loses_no_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The numbers run out after the index was read; safetensors then says that no file is there."""
    server, store, _ = waiting(tmp_path)
    before, real = files(tmp_path), Path.read_text
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []

    def read_and_fill(path: Path, *args: Any, **kwargs: Any) -> str:
        text = real(path, *args, **kwargs)
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        try:
            while len(taken) < 256:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            return text
        return text

    try:
        with monkeypatch.context() as patch:
            patch.setattr(Path, "read_text", read_and_fill)
            with pytest.raises(OSError):  # noqa: PT011  whatever it says
                store.load("0")
    finally:
        for number in taken:
            os.close(number)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert files(tmp_path) == before
    assert "keyframe" not in check_goes_on(server, store)
