from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from fedcomp.config import (
    compose_config,
    config_dir,
    group_choices,
    run_folder,
    split_sweep,
)
from fedcomp.errors import ConfigError
from fedcomp.network import Network
from fedcomp.settings import GROUPS, Job, parse
from fedcomp.training.settings import TrainSettings
from strategies.build import build_strategy

VARIANTS = {
    "cossgd_down": "cossgd",
    "masked_down": "masked",
    "subspace_growing": "subspace",
}
"""Files with other values of a codec, for a method that needs them, and the codec."""

BESIDE = {
    "majority": ["method=signsgd"],
    "fedcompress": ["method=fedcompress"],
    "feddip": ["method=feddip"],
    "snip": ["method=snip"],
    "subspace": ["codec@uplink=subspace"],
    "subspace_growing": ["codec@uplink=subspace_growing"],
}
"""What an option needs beside it."""

RUNS_AWAY = ("linear", "qsgd", "signsgd", "terngrad")
"""Codecs that are refused on the downlink at their defaults."""

PRUNING = ("feddip", "magnitude", "snip")
"""Methods that refuse a downlink which makes something of zeros."""

KEEPS_ZEROS = ("clustered", "ecq", "lossless", "masked", "masked_down", "none")

CHOICES = [(group, option) for group, options in group_choices().items() for option in options]


def problems(*overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as error:
        compose_config(list(overrides))
    return error.value.problems


@pytest.mark.parametrize(("group", "option"), CHOICES)
def test_every_option_composes_and_builds(group: str, option: str) -> None:
    override = f"{group}={option}"
    if group == "codec@downlink" and option in RUNS_AWAY:
        (problem,) = problems(override)
        assert problem.startswith(f"codec@downlink={option}: ")
        assert "would run away; choose " in problem
        return
    config = compose_config([*{override, *BESIDE.get(option, [])}])
    settings = parse(config)
    assert build_strategy(settings) is not None
    if group in GROUPS:
        name = "resnet18" if override == "model=torchvision" else option
        assert config[group]["name"] == name == getattr(settings, group).name
    if group.startswith("codec@"):
        assert config[group.removeprefix("codec@")]["name"] == VARIANTS.get(option, option)
    if group == "method":
        assert settings.method.name == option


@pytest.mark.parametrize("method", group_choices()["method"])
@pytest.mark.parametrize("codec", group_choices()["codec@uplink"])
def test_every_method_takes_every_codec(method: str, codec: str) -> None:
    words = [f"method={method}", f"codec@uplink={codec}"]
    if method == "signsgd" and codec != "signsgd":
        (problem,) = problems(*words)
        assert problem.startswith("server_step=majority: counts signs of one size")
        return
    name = VARIANTS.get(codec, codec)
    if method == "fedcomp" and name != "subspace":
        found = problems(*words, f"codec@downlink={codec}")
        assert f"recipe=subspace codec@uplink={name}: trains where" in found[0]
        return
    both = method == "signsgd" or codec not in RUNS_AWAY
    if method in PRUNING and codec not in KEEPS_ZEROS:
        found = problems(f"method={method}", f"codec@downlink={codec}")
        assert "with these settings a zero may arrive as something else" in found[-1]
        both = False
    config = compose_config([*words, f"codec@downlink={codec}"] if both else words)
    assert (config["uplink"] == config["downlink"]) == both
    assert config["uplink"]["name"] == name
    assert config["method"]["name"] == method


def test_every_file_lists_all_settings_of_its_class_with_their_defaults() -> None:
    for group, registry in GROUPS.items():
        if group in ("uplink", "downlink"):
            continue
        for name in registry.names():
            given = compose_config([f"{group}={name}", *BESIDE.get(name, [])])[group]
            known = {field.name for field in dataclasses.fields(registry.get(name))}
            assert set(given) - {"name"} == known, (group, name)
    for name in group_choices()["network"]:
        given = compose_config([f"network={name}"])["network"]
        assert given["name"] == name
        known = {field.name for field in dataclasses.fields(Network)}
        assert set(given) == (known if name != "none" else {"name"})
    fields = {field.name: field.default for field in dataclasses.fields(TrainSettings)}
    assert compose_config([])["train"] == fields


def test_every_registered_component_has_a_file() -> None:
    for group, registry in GROUPS.items():
        folder = "codec" if group in ("uplink", "downlink") else group
        files = {path.stem for path in (config_dir() / folder).glob("*.yaml")}
        assert files - {"torchvision"} - set(VARIANTS) == set(registry.names()), group


def test_all_errors_come_at_once() -> None:
    found = problems(
        "rouns=3",
        "dataset=digitz",
        "train.lr=-1",
        "clients=many",
        "uplink.mode=nodelta",
        "nonsense",
    )
    assert len(found) == 6
    text = "\n".join(found)
    for part in (
        "uplink.mode=nodelta: Input should be",
        "rouns=3: there is no key rouns; did you mean rounds?",
        "dataset=digitz: there is no such option; did you mean digits?",
        "train.lr=-1: Input should be greater than 0",
        "clients=many: Input should be a valid integer",
        "nonsense: is not of the form key=value",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("strategy.momentum=0.9", "there is no key strategy.momentum"),
        ("strategy.min_train_nodes=0.5", "must be of type int, such as the default 1"),
        ("strategy.min_train_nodes=0", r"with 10 of 10 clients in a round allowed are 1 to 10"),
        ("strategy.min_train_nodes=11", r"with 11 of 10 clients in a round allowed are 1 to 10"),
        ("strategy.min_available_nodes=20", "allowed are 1 to 10"),
        ("strategy.fraction_evaluate=2", "allowed are 0 to 1"),
        ("strategy.fraction_evaluate=true", "must be a number"),
        ("+strategy.weighted_by_key=foo", "is set by the project"),
        ("+strategy.fraction_train=0.1", "the share of clients is `fraction`"),
        ("~strategy._target_", "keys can be added or removed below strategy only"),
        ("strategy._target_=null", "must be of type str"),
        ("+foo=1", "keys can be added or removed below strategy only"),
        ("~train", "there is no such option; allowed: default"),
        ("train=null", "there is no such option; allowed: default"),
        ("uplink=cast", r"choose codec@uplink=…"),
        ("model.name=null", "model: one option of this group has to be chosen"),
        ("train.lr=inf", "must be finite"),
        ("strategy.fraction_evaluate=nan", "must be a finite value"),
        ("hydra.run.dir=null", "names no folder"),
        ("method.name=/tmp/x", "should match pattern"),
        ("hydra.mode=MULTIRUN", r"of Hydra only hydra\.run\.dir and"),
        ("rounds=1,2", "names several values"),
        ("partition=dirichlt", "did you mean dirichlet"),
        ("engine.min_results=11", "a round asks only 10 clients"),
        ("uplink.mode=absolute", "codec fsfl works in mode delta only"),
        ("codec=cast", "there is no key codec"),
        ("train.lrr=1", r"there is no key train\.lrr; did you mean lr\?"),
        ("targets=[0.5,0]", "targets.1=0: Input should be greater than 0"),
        ("fraction=1.5", "fraction=1.5: Input should be less than or equal to 1"),
        ("rounds=2.5", "rounds=2.5: Input should be a valid integer"),
        ("seed=-1", "seed=-1: Input should be greater than or equal to 0"),
        ("verbose=maybe", "verbose=maybe: Input should be a valid boolean"),
        ("model.hidden.x=1", "there is no key model.hidden.x"),
        ("experiment=nothing", r"did you mean|allowed: .*half_noniid"),
        ("train.lr=${clients", "is not of the form key=value"),
        ("train.lr=${nobody}", "^train.lr: Interpolation key .nobody. not found$"),
    ],
)
def test_bad_input_is_explained(override: str, expected: str) -> None:
    import re

    (found,) = problems(override)
    assert re.search(expected, found)


@pytest.mark.parametrize(
    ("clients", "fraction", "expected"),
    [(10, 0.3, 3), (100, 0.29, 29), (7, 1.0, 7), (50, 0.001, 1)],
)
def test_flower_asks_exactly_the_clients_that_are_stated(
    clients: int, fraction: float, expected: int
) -> None:
    settings = parse(compose_config([f"clients={clients}", f"fraction={fraction}"]))
    assert settings.clients_per_round == expected
    strategy = build_strategy(settings)
    assert max(int(clients * strategy.fraction_train), 1) == expected  # type: ignore[attr-defined]


def test_errors_in_different_places_do_not_hide_each_other() -> None:
    found = problems("hydra.foo=1", "rouns=3", "clients=a", "train.lr=${foo}", "~train")
    assert {text.split(":")[0].split("=")[0] for text in found} == {
        "hydra.foo", "~train", "rouns", "clients",
    }  # fmt: skip
    assert len(problems("partition=dirichlt", "partition.alpha=0.1")) == 1


def test_valid_overrides_of_unusual_forms() -> None:
    config = compose_config(["strategy=fedadam", "strategy.eta_l=${train.lr}", "experiment=null"])
    assert config["strategy"]["eta_l"] == config["train"]["lr"]
    assert "fraction_evaluate" not in compose_config(["~strategy.fraction_evaluate"])["strategy"]


@pytest.mark.parametrize(
    ("strategy", "clients", "malicious", "fits"),
    [("krum", 5, 1, True), ("krum", 4, 1, False), ("bulyan", 7, 1, True), ("bulyan", 6, 1, False)],
)
def test_robust_strategies_need_enough_clients(
    strategy: str, clients: int, malicious: int, fits: bool
) -> None:
    words = [f"strategy={strategy}", f"clients={clients}"]
    words.append(f"strategy.num_malicious_nodes={malicious}")
    if fits:
        compose_config(words)
    else:
        assert "num_malicious_nodes=1" in problems(*words)[0]


def test_a_codec_of_another_folder_can_be_chosen(tmp_path: Path) -> None:
    (tmp_path / "codec").mkdir()
    text = (config_dir() / "codec" / "cast.yaml").read_text().replace("dtype: fp16", "dtype: bf16")
    (tmp_path / "codec" / "mine.yaml").write_text(text)
    config = compose_config([f"hydra.searchpath=[file://{tmp_path}]", "codec@uplink=mine"])
    assert config["uplink"]["dtype"] == "bf16"


def test_flower_never_waits_for_clients_that_do_not_exist() -> None:
    words = ["clients=1", "~strategy.min_available_nodes", "~strategy.min_train_nodes"]
    strategy = build_strategy(parse(compose_config(words)))
    assert (strategy.min_available_nodes, strategy.min_train_nodes) == (1, 1)  # type: ignore[attr-defined]


def test_any_strategy_by_its_path() -> None:
    target = "strategy._target_=flwr.serverapp.strategy.QFedAvg"
    config = compose_config([target, "+strategy.client_learning_rate=0.1"])
    assert type(build_strategy(parse(config))).__name__ == "QFedAvg"
    with pytest.raises(ConfigError, match=r"refuses its arguments: .*client_learning_rate"):
        build_strategy(parse(compose_config([target])))
    with pytest.raises(ConfigError, match=r"takes no such argument; did you mean q\?"):
        build_strategy(parse(compose_config([target, "+strategy.qq=0.1"])))
    with pytest.raises(ConfigError, match=r"is not a flwr\.serverapp\.strategy\.Strategy"):
        build_strategy(parse(compose_config(["strategy._target_=collections.Counter"])))


def test_a_job_survives_its_json() -> None:
    job = Job(compose_config(["method=half"]), "id", "folder")
    again = Job.from_json(job.to_json())
    assert again == job
    assert again.settings == job.settings


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("rounds=1,2", ["rounds=1", "rounds=2"]),
        ("codec@uplink=qsgd,sign", ["codec@uplink=qsgd", "codec@uplink=sign"]),
        ("seed=range(1,4)", ["seed=1", "seed=2", "seed=3"]),
        ("train.lr=choice(0.1,0.2)", ["train.lr=0.1", "train.lr=0.2"]),
        ("method=glob(feda*)", ["method=fedavg"]),
        ("codec@uplink=glob(q*)", ["codec@uplink=qsgd"]),
        ("model.hidden=[8,16]", ["model.hidden=[8,16]"]),
        ("model.hidden=[8],[8,16]", ["model.hidden=[8]", "model.hidden=[8,16]"]),
        ("+strategy.x='1,2'", ["+strategy.x='1,2'"]),
        ("train.lr=${fraction}", ["train.lr=${fraction}"]),
        ("~strategy.fraction_evaluate", ["~strategy.fraction_evaluate"]),
    ],
)
def test_words_of_a_sweep(override: str, words: list[str]) -> None:
    found: list[str] = []
    assert split_sweep([override, "experiment=null"], found) == ([words], None)
    assert found == []


def test_interpolations_and_spaces_may_be_swept() -> None:
    ((one, two),), _ = split_sweep(["data_dir=${model.name}/x,'a, b'"], [])
    assert compose_config([one])["data_dir"] == "small_cnn/x"
    assert compose_config([two])["data_dir"] == "a, b"


@pytest.mark.parametrize("name", ["plain", "a b", "it's=a,b", "x\\'y", "[1]{2}", "tail\\"])
def test_a_run_folder_may_have_any_name(name: str) -> None:
    word = run_folder(Path(name))
    compose_config([word])
    assert split_sweep([word], []) == ([], name)


@pytest.mark.parametrize("value", ["a,b", "${method.name}", "null", ""])
def test_a_sweep_has_one_folder(value: str) -> None:
    found: list[str] = []
    split_sweep([f"hydra.run.dir={value}"], found)
    assert found == [f"hydra.run.dir={value}: has to name one folder, for all jobs"]
