import ast
import json
import math
import platform
import resource
import sys
from datetime import UTC, datetime
from importlib.metadata import packages_distributions, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import oihedge
from oihedge.core.errors import DataError, ModelError
from oihedge.core.types import ModelRef
from oihedge.registry.client import ActiveRun
from oihedge.registry.versions import SERVED_WITH

AT = datetime(2025, 1, 1, tzinfo=UTC)
PNG = bytes.fromhex("89504e470d0a1a0a")


def test_a_run_keeps_its_parameters_metrics_figures_files_and_dataset(registry):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    many = {f"group.setting_{i}": i for i in range(120)}
    with registry.run("first", tags={"as_of": "2025-01-01T00:00:00Z"}, params={"kind": "tft", **many}) as run:
        run.epoch(0, {"val_loss": 2.0})
        run.epoch(1, {"val_loss": 1.0})
        run.metrics({f"m{i}": float(i) for i in range(60)} | {"unknown": math.nan})
        run.figure("drawn.png", Figure())
        run.figure("given.png", PNG)
        run.json("gates.json", {"value": math.nan, "list": (1, 2)})
        run.dataset("features", source="data/lake", version=3, profile={"rows": 10})
    stored = registry._client.get_run(run.run_id)
    assert stored.info.status == "FINISHED"
    assert stored.data.params["kind"] == "tft"
    assert len(stored.data.params) == 121
    assert stored.data.metrics["m59"] == 59
    history = registry._client.get_metric_history(run.run_id, "val_loss")
    assert [(m.step, m.value) for m in history] == [(0, 2.0), (1, 1.0)]
    assert registry.read_json(run.run_id, "gates.json") == {"value": None, "list": [1, 2]}
    figures = {file.path for file in registry._client.list_artifacts(run.run_id, "figures")}
    assert figures == {"figures/drawn.png", "figures/given.png"}
    dataset = stored.inputs.dataset_inputs[0].dataset
    assert (dataset.name, json.loads(dataset.source)["delta_table_version"]) == ("features", 3)


def test_a_run_keeps_the_environment_as_a_lock_that_names_what_is_imported(registry):
    with registry.run("first") as run:
        run.environment()
    python, machine, *pins = registry.read_bytes(run.run_id, "environment.txt").decode().splitlines()
    assert python == f"# Python {platform.python_version()}"
    assert machine.startswith("# ")
    assert pins == sorted(pins, key=lambda pin: pin.partition("==")[0])
    pinned = {told.name: told for told in (Requirement(pin.partition("#")[0]) for pin in pins)}
    assert len(pinned) == len(pins) > 100
    for name in ("torch", "mlflow", "polars", "pytorch-forecasting"):
        assert version(name) in pinned[name].specifier
    assert "oihedge" not in pinned
    assert not any("+" in str(told.specifier) for told in pinned.values())


def test_what_the_served_model_imports_is_what_its_requirements_name():
    package = Path(oihedge.__file__).parent
    files = [package / "served_model.py", *package.glob("core/*.py"), *package.glob("forecast/**/*.py")]
    trees = [ast.walk(ast.parse(file.read_text())) for file in files]
    nodes = [node for tree in trees for node in tree]
    told = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    told += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
    needed = {name.partition(".")[0] for name in told} - sys.stdlib_module_names - {"oihedge"}
    owners = packages_distributions()
    assert {"scipy", "numba", "torch"} <= needed
    for name in needed:
        assert {one.lower() for one in owners[name]} & {*SERVED_WITH}, name


def test_the_reason_of_a_failure_is_one_line_without_secrets(registry, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "tell-nobody")
    with pytest.raises(RuntimeError), registry.run("doomed") as run:
        raise RuntimeError("could not read\nwith key tell-nobody\x1b[2J")
    reason = registry._client.get_run(run.run_id).data.tags["failure"]
    assert reason == "RuntimeError: could not read with key ***\\x1b[2J"


def test_a_failure_marks_the_run_with_its_reason_and_withdraws_its_version(registry, add_version):
    def doomed():
        with registry.run("doomed", tags={"retrain_key": "k"}) as run:
            runs.append(run)
            add_version(run)
            raise DataError("too little history")

    runs = []
    with pytest.raises(DataError):
        doomed()
    run = runs[0]
    stored = registry._client.get_run(run.run_id)
    assert stored.info.status == "FAILED"
    assert stored.data.tags["failure"] == "DataError: too little history"
    assert registry.finished("k") is None
    assert registry._versions(run.run_id) == []


@pytest.fixture
def fill_disk():
    """Return what keeps every file from growing beyond a page until the test is over: a full disk to the database."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_failure_on_a_full_disk_is_raised_itself_with_a_note_of_what_is_left(registry, add_version, fill_disk, capfd):
    def doomed():
        with registry.run("doomed") as run:
            runs.append(run)
            add_version(run)
            fill_disk()
            raise DataError("too little history")

    runs = []
    with pytest.raises(DataError) as raised:
        doomed()
    assert str(raised.value) == "too little history"
    left = f"run {runs[0].run_id} is left as it is: "
    assert [(note.startswith(left), "disk I/O error" in note) for note in raised.value.__notes__] == [(True, True)] * 2
    assert capfd.readouterr().err == ""
    assert registry._client.get_run(runs[0].run_id).info.status == "RUNNING"


def test_an_interrupt_marks_the_run_killed(registry):
    with pytest.raises(KeyboardInterrupt), registry.run("stopped") as run:
        raise KeyboardInterrupt
    assert registry._client.get_run(run.run_id).info.status == "KILLED"


def test_a_finished_run_is_found_by_its_key_with_its_version(registry, add_version):
    with registry.run("a", tags={"retrain_key": "key-a"}) as run:
        assert registry.finished("key-a") is None
        version = add_version(run, as_of="2025-01-01T00:00:00Z")
    assert registry.finished("key-a") == version
    assert version.trained_as_of is not None
    assert registry.finished("key-b") is None


def test_a_finished_run_without_a_version_is_not_reused(registry):
    with registry.run("a", tags={"retrain_key": "key-a"}):
        pass
    assert registry.finished("key-a") is None


def left_open(registry, name, **tags):
    """Return a run whose process died in it."""
    told = {"home": registry._place, **tags}
    made = registry._client.create_run(registry._opened[1]["test"], tags=told, run_name=name)
    return ActiveRun(registry._client, made.info.run_id)


def test_retrains_of_dead_processes_are_closed_whatever_their_key_and_their_versions_withdrawn(registry, add_version):
    left = [left_open(registry, "dead", retrain_key=key) for key in ("k", "another hour's")]
    for run in left:
        add_version(run)
    search = left_open(registry, "search", search_key="k")
    elsewhere = left_open(registry, "of another machine", retrain_key="k", home="another")
    with registry.run("next", tags={"retrain_key": "k"}) as run:
        registry.abandon_others(run.run_id)
        kept = add_version(run)
    for dead in left:
        assert registry._client.get_run(dead.run_id).info.status == "KILLED"
        assert registry._versions(dead.run_id) == []
    for alive in (search, elsewhere):
        assert registry._client.get_run(alive.run_id).info.status == "RUNNING"
    assert registry.finished("k") == kept


def test_a_version_that_was_judged_or_has_an_alias_is_not_withdrawn(registry, add_version):
    left = left_open(registry, "dead", retrain_key="k")
    promoted, refused, named, rest = (add_version(left) for _ in range(4))
    registry.promote(promoted, reason="held", at=AT)
    registry.refuse(refused, reason="coverage", at=AT)
    registry.set_alias("by_hand", named)
    with registry.run("next", tags={"retrain_key": "later"}) as run:
        registry.abandon_others(run.run_id)
    assert registry._client.get_run(left.run_id).info.status == "KILLED"
    assert {one.version for one in registry._versions(left.run_id)} == {"1", "2", "3"}
    assert rest.version == "4"
    assert registry.champion() == promoted


def test_an_empty_registry_has_no_champion_challenger_or_ledger(registry):
    assert (registry.champion(), registry.challenger(), registry.ledger()) == (None, None, [])


def test_what_is_not_there_is_named(registry, tmp_path):
    with registry.run("a") as run, pytest.raises(ModelError, match="is not there"):
        registry.register(run, tmp_path / "nowhere", code_path=Path("x.py"), example=None)
    with pytest.raises(ModelError, match=r"has no file gates\.json"):
        registry.read_json(run.run_id, "gates.json")
    with pytest.raises(ModelError, match="version 9 of oihedge cannot be read"):
        registry.model_folder(ModelRef("oihedge", "9", run.run_id))


def test_a_json_file_that_was_changed_cut_or_written_by_hand_is_not_read(registry, tmp_path):
    with registry.run("a") as run:
        run.json("gates.json", {"passed": False})
        (tmp_path / "by_hand.json").write_text("{}")
        registry._client.log_artifact(run.run_id, str(tmp_path / "by_hand.json"))
    (file,) = (tmp_path / "mlruns").rglob("gates.json")
    for content in ('{"passed": true}', file.read_text()[:-4], ""):
        file.write_text(content)
        with pytest.raises(ModelError, match=r"^gates\.json of run \w+ is not what the run wrote; expected sha256"):
            registry.read_json(run.run_id, "gates.json")
    with pytest.raises(ModelError, match=r"^run \w+ keeps no digest of its by_hand\.json;.*; retrain$"):
        registry.read_json(run.run_id, "by_hand.json")


def test_a_run_tells_what_it_was_made_with_or_says_that_it_does_not(registry):
    with registry.run("a", params={"forecast.drop": 0.04}) as run:
        assert registry.parameter(run.run_id, "forecast.drop") == 0.04
    with pytest.raises(ModelError, match=r"does not tell its forecast\.horizon_h; retrain"):
        registry.parameter(run.run_id, "forecast.horizon_h")


def test_places_are_taken_from_home(registry, tmp_path):
    with registry.run("a") as run:
        run.json("x.json", {})
    assert (tmp_path / "mlruns" / "mlflow.db").is_file()
    assert list((tmp_path / "mlruns" / "artifacts" / "test").rglob("x.json"))
