"""The registry: runs, model versions, the aliases challenger and champion, and the ledger of verdicts."""

from __future__ import annotations

import hashlib
import json
import logging
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from filelock import FileLock

from oihedge.core.clock import iso
from oihedge.core.errors import ModelError, one_line
from oihedge.core.hashing import digest
from oihedge.core.types import ModelRef
from oihedge.registry.door import absolute_uri, answering, import_mlflow, no_bytecode, open_client, silenced
from oihedge.registry.files import fingerprint, local_path, saved_folder
from oihedge.registry.ledger import PROMOTED, REFUSED, ROLLED_BACK, Entry, Ledger, awaited, before, champions, last_move
from oihedge.registry.runs import DIGEST_OF, ActiveRun
from oihedge.registry.settings import Registry as Settings
from oihedge.registry.versions import log_version, model_ref

__all__ = ["ActiveRun", "Registry"]

VERDICT_S = 20.0
"""A verdict is written and carried out in less."""
CHAMPION, CHALLENGER = "champion", "challenger"
RETRAIN_KEY, SEARCH_KEY = "retrain_key", "search_key"
PARENT, HOME = "mlflow.parentRunId", "home"
FINGERPRINT = "manifest_sha256"


class Registry:
    """MLflow behind the few verbs that the pipeline needs; opened on first use.

    Args:
        settings: names and places.
        home: what relative places start from.
    """

    def __init__(self, settings: Settings, home: Path) -> None:
        self._settings, self._home = settings, home
        self._uri = absolute_uri(settings.tracking_uri, home)
        self._artifacts = home / settings.artifacts
        self._place = digest([platform.node(), str(home.resolve())])

    @cached_property
    def _opened(self) -> tuple[Any, dict[str, str]]:
        # It prints the traceback of an error of the database that it raises as well.
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
        return open_client(self._uri, self._artifacts, (self._settings.experiment, self._ledger_name))

    @property
    def _ledger_name(self) -> str:
        return f"{self._settings.experiment}-ledger"

    @property
    def _client(self) -> Any:
        client, _ = self._opened
        mlflow = import_mlflow()
        mlflow.set_tracking_uri(self._uri)
        mlflow.set_registry_uri(self._uri)
        return client

    @property
    def _ledger(self) -> Ledger:
        return Ledger(self._client, self._opened[1][self._ledger_name], self._settings.model_name)

    @contextmanager
    def _verdict_lock(self, timeout_s: float = -1) -> Iterator[None]:
        """Hold what promotions, refusals and rollbacks take in turns; waits for ever unless told otherwise."""
        lock = FileLock(self._artifacts.parent / ".verdict.lock")
        with answering(self._uri):
            lock.acquire(timeout=timeout_s)
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def run(
        self,
        name: str,
        *,
        tags: Mapping[str, str] | None = None,
        params: Mapping[str, Any] | None = None,
        parent: str | None = None,
        resume: str | None = None,
    ) -> Iterator[ActiveRun]:
        """Open a run; leaving normally finishes it, an error marks it failed and withdraws what it registered.

        Args:
            name: shown in MLflow.
            tags: to set.
            params: the settings.
            parent: id of the run that it is nested in.
            resume: id of an earlier run to go on with instead of making one; its parameters must be the same.
        """
        client = self._client
        told = {HOME: self._place, **(tags or {}), **({PARENT: parent} if parent else {})}
        if resume is None:
            run_id = client.create_run(self._opened[1][self._settings.experiment], tags=told, run_name=name).info.run_id
        else:
            run_id = resume
            client.update_run(run_id, status="RUNNING")
        active = ActiveRun(client, run_id)
        try:
            active.parameters(params or {})
            yield active
        except BaseException as error:
            self._give_up(active, error)
            raise
        active.finish()

    def _give_up(self, active: ActiveRun, error: BaseException) -> None:
        """Withdraw what the run registered and mark it failed; where the store refuses, `error` only takes a note.

        What made the run fail may be the store itself, a full disk for one: that is what is to be told. The next
        retrain closes the run.
        """
        status = "FAILED" if isinstance(error, Exception) else "KILLED"
        for step in (partial(self._withdraw, active.run_id), partial(active.fail, error, status)):
            try:
                step()
            except Exception as second:
                error.add_note(f"run {active.run_id} is left as it is: {one_line(second)}")

    def finished(self, key: str) -> ModelRef | None:
        """Return the version that a finished run with tag `retrain_key` = `key` registered, if there is one."""
        for run in self._tagged(RETRAIN_KEY, key, "FINISHED"):
            versions = self._versions(run.info.run_id)
            if versions:
                return versions[0]
        return None

    def abandon_others(self, run_id: str) -> None:
        """Mark every other running retrain of this home as killed and withdraw what it registered.

        For the holder of the lease `retrain` alone: whatever else still runs, of whichever key, has lost its process.
        Homes on other machines may share the store; their leases are their own.
        """
        for run in self._search(f"tags.`{RETRAIN_KEY}` LIKE '%' and tags.`{HOME}` = '{self._place}'", "RUNNING"):
            if run.info.run_id != run_id:
                self._withdraw(run.info.run_id)
                dead = ModelError("its process ended before it did", do=f"run {run_id} took over")
                ActiveRun(self._client, run.info.run_id).fail(dead, "KILLED")

    def search_run(self, key: str) -> str | None:
        """Return the id of the run with tag `search_key` = `key`, finished or not, if there is one."""
        return next((run.info.run_id for run in self._tagged(SEARCH_KEY, key)), None)

    def abandon_nested(self, parent: str) -> None:
        """Mark every still running run nested in `parent` as killed: its process died."""
        for run in self._tagged(PARENT, parent, "RUNNING"):
            dead = ModelError("its process ended before it did", do="its trial is made again")
            ActiveRun(self._client, run.info.run_id).fail(dead, "KILLED")

    def register(
        self, run: ActiveRun, folder: Path, *, code_path: Path, example: Any, requirements: Sequence[str] = ()
    ) -> ModelRef:
        """Log the saved model in `folder` behind the code in `code_path` and register it, without any alias.

        Args:
            run: the run it belongs to.
            folder: what FittedModel.save wrote; files of that folder only, no pickle.
            code_path: a Python file that calls mlflow.models.set_model.
            example: a small pandas frame of input, naive UTC time stamps.
            requirements: pip requirements of the served model, beside the known ones.

        Raises:
            ModelError: if the folder is not there.
        """
        if not folder.is_dir():
            raise ModelError(f"{folder} is not there", expected="the folder of a saved model")
        client = self._client
        tags = client.get_run(run.run_id).data.tags
        kept = {name: tags[name] for name in ("as_of", "features_version", "config_hash") if name in tags}
        kept[FINGERPRINT] = fingerprint(folder)
        return log_version(
            client, self._settings.model_name, run.run_id, folder, code_path, example, requirements, kept
        )

    def set_alias(self, name: str, version: ModelRef) -> None:
        """Point alias `name` at `version`."""
        self._client.set_registered_model_alias(version.name, name, version.version)

    def champion(self) -> ModelRef | None:
        """Return the version in service: the alias counts only where the ledger says the same.

        An alias that was moved by hand has passed no gate; there is then no champion. Where a promotion or rollback
        died before the alias followed, the ledger alone counts.

        Raises:
            ConfigError, ModelError: if the store does not answer.
        """
        with answering(self._uri):
            entries = self._ledger.entries()
            version = self._in_service(entries)
            if version is None and champions(entries):
                # A verdict may have been carried out between the two readings; one that hangs must not hang the hedge.
                with self._verdict_lock(VERDICT_S):
                    version = self._in_service(self._ledger.entries())
            return version

    def _in_service(self, entries: Sequence[Entry]) -> ModelRef | None:
        """Return the last in line if the alias is there too, or has yet to follow; None where that version is gone."""
        due = awaited(entries)
        try:
            version = self._by_version(due) if due else self._by_alias(CHAMPION)
        except ModelError:
            return None
        return version if version is not None and champions(entries)[-1:] == [version.version] else None

    def champion_before(self, instant: datetime) -> ModelRef | None:
        """Return the newest champion in line that was trained as of before `instant`: it knows nothing after it."""
        for version in reversed(champions(self._ledger.entries())):
            known = self._by_version(version)
            if known.trained_as_of is not None and known.trained_as_of < instant:
                return known
        return None

    def challenger(self) -> ModelRef | None:
        """Return the newest version that waits for, or has had, its verdict."""
        return self._by_alias(CHALLENGER)

    def model_folder(self, version: ModelRef) -> Path:
        """Return the folder with the files that FittedModel.save wrote.

        Raises:
            ModelError: if the version or its files are not there, not readable or damaged, naming the file.
        """
        mlflow = import_mlflow()
        try:
            uri = self._client.get_model_version_download_uri(version.name, version.version)
            root = local_path(uri) or Path(mlflow.artifacts.download_artifacts(uri))
            registered = self._client.get_model_version(version.name, version.version).tags.get(FINGERPRINT)
        except (mlflow.exceptions.MlflowException, OSError) as error:
            raise ModelError(f"version {version.version} of {version.name} cannot be read", got=str(error)) from error
        return saved_folder(root, version.version, registered)

    def pyfunc_predict(self, version: ModelRef, rows: Any) -> Any:
        """Reload the version as MLflow serves it and predict from a pandas frame of feature rows (naive UTC)."""
        _ = self._client
        with silenced(), no_bytecode():
            served = import_mlflow().pyfunc.load_model(f"models:/{version.name}/{version.version}")
            return served.predict(rows)

    def read_json(self, run_id: str, name: str) -> Any:
        """Return the JSON file `name` of a run.

        Raises:
            ModelError: if the run does not have it, or it is not what `ActiveRun.json` wrote: verdicts rest on it.
        """
        content = self.read_bytes(run_id, name)
        written = self._client.get_run(run_id).data.tags.get(DIGEST_OF + name)
        if written is None:
            raise ModelError(
                f"run {run_id} keeps no digest of its {name}", expected="a run of this release", do="retrain"
            )
        found = hashlib.sha256(content).hexdigest()
        if found != written:
            raise ModelError(
                f"{name} of run {run_id} is not what the run wrote",
                expected=f"sha256 {written}",
                got=found,
                do="restore it, or retrain",
            )
        return json.loads(content)

    def parameter(self, run_id: str, name: str) -> Any:
        """Return the value of a setting that a run was made with, e.g. of `forecast.drop`, if it is no text.

        Raises:
            ModelError: if the run does not tell.
        """
        value = self._client.get_run(run_id).data.params.get(name)
        if value is None:
            raise ModelError(f"run {run_id} does not tell its {name}", do="retrain")
        return json.loads(value)

    def read_bytes(self, run_id: str, name: str) -> bytes:
        """Return the file `name` of a run, e.g. `figures/fan.png`.

        Raises:
            ModelError: if the run does not have it.
        """
        mlflow = import_mlflow()
        try:
            return Path(self._client.download_artifacts(run_id, name)).read_bytes()
        except (mlflow.exceptions.MlflowException, OSError) as error:
            raise ModelError(f"run {run_id} has no file {name}", do="retrain") from error

    def promote(self, version: ModelRef, *, reason: str, at: datetime) -> None:
        """Put `version` in service. Doing it again changes nothing.

        The ledger is written first: a process that dies in between leaves an open row, which `settle` acts on.
        """
        with self._verdict_lock():
            self._complete()
            if champions(self._ledger.entries())[-1:] != [version.version]:
                self._ledger.write(PROMOTED, version.version, version.run_id, reason, iso(at))
            self._put_in_service(version.version)

    def settle(self) -> None:
        """Move the alias where a promotion or rollback wanted it whose process died in between."""
        with self._verdict_lock():
            self._complete()

    def refuse(self, version: ModelRef, *, reason: str, at: datetime) -> None:
        """Write that `version` was not promoted; the champion stays. The same refusal is written once."""
        with self._verdict_lock():
            own = [entry for entry in self._ledger.entries() if entry.version == version.version]
            if not own or (own[-1].verdict, own[-1].reason) != (REFUSED, reason):
                self._ledger.write(REFUSED, version.version, version.run_id, reason, iso(at))

    def rolled_back(self, version: ModelRef) -> bool:
        """Return whether `version` was in service and was taken out by a rollback."""
        entries = self._ledger.entries()
        promoted = any(entry.verdict == PROMOTED and entry.version == version.version for entry in entries)
        return promoted and version.version not in champions(entries)

    def rollback(self, *, at: datetime, reason: str) -> ModelRef:
        """Put the previous champion back. Again with the same `at` and `reason`, it changes nothing.

        Where one died before the alias followed, this one completes it and goes no further back.

        Raises:
            ModelError: if there is no previous champion.
        """
        with self._verdict_lock():
            last, alias = last_move(self._ledger.entries()), self._by_alias(CHAMPION)
            self._complete()
            halfway = last is not None and last.open and (alias is None or alias.version != last.version)
            again = last is not None and (last.at, last.reason) == (iso(at), reason)
            if last is not None and last.verdict == ROLLED_BACK and (halfway or again):
                known = self._by_version(last.version)
            else:
                known = self._by_version(before(self._ledger.entries()))
                self._ledger.write(ROLLED_BACK, known.version, known.run_id, reason, iso(at))
            self._put_in_service(known.version)
        return known

    def ledger(self) -> list[dict[str, Any]]:
        """Return every verdict, oldest first: number, verdict, version, run_id, reason, at."""
        return [entry.as_dict() for entry in self._ledger.entries()]

    def _complete(self) -> None:
        """Carry out the last promotion or rollback if it is open, under the verdict lock: its process is dead."""
        due = awaited(self._ledger.entries())
        if due:
            with suppress(ModelError):  # the version is gone, which keeps no other from being promoted
                self._put_in_service(self._by_version(due).version)

    def _put_in_service(self, version: str) -> None:
        champion = self._by_alias(CHAMPION)
        if champion is None or champion.version != version:
            self._client.set_registered_model_alias(self._settings.model_name, CHAMPION, version)
        for entry in self._ledger.entries():
            if entry.open:
                self._ledger.close(entry.row)

    def _by_version(self, version: str) -> ModelRef:
        mlflow = import_mlflow()
        try:
            return model_ref(self._client.get_model_version(self._settings.model_name, version))
        except mlflow.exceptions.MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            raise ModelError(
                f"version {version} of {self._settings.model_name} is gone", do="promote another"
            ) from error

    def _by_alias(self, alias: str) -> ModelRef | None:
        mlflow = import_mlflow()
        client = self._client
        try:
            return model_ref(client.get_model_version_by_alias(self._settings.model_name, alias))
        except mlflow.exceptions.MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise

    def _tagged(self, tag: str, value: str, status: str = "") -> list[Any]:
        return self._search(f"tags.`{tag}` = '{value}'", status)

    def _search(self, where: str, status: str = "") -> list[Any]:
        where += f" and attributes.status = '{status}'" if status else ""
        return list(self._client.search_runs([self._opened[1][self._settings.experiment]], where))

    def _versions(self, run_id: str) -> list[ModelRef]:
        return [model_ref(found) for found in self._client.search_model_versions(f"run_id = '{run_id}'")]

    def _withdraw(self, run_id: str) -> None:
        """Delete what the run registered, but a version that has an alias or that the ledger tells of."""
        for version in self._versions(run_id):
            aliases = self._client.get_model_version(version.name, version.version).aliases
            if not aliases and all(entry.version != version.version for entry in self._ledger.entries()):
                self._client.delete_model_version(version.name, version.version)
