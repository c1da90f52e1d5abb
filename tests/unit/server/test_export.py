"""The run of a federation as a folder for people."""

from __future__ import annotations

import hashlib
import json
import shutil
import tomllib
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tomli_w
import typer
from trees.watched_federation import write_federation
from typer.testing import CliRunner, Result

from more_model.base import Base, assemble, load_base, save_base
from more_model.checkpoint import load_checkpoint
from more_model.errors import ConfigError, ExchangeError, RoundError
from more_model.exchange import TensorDict
from more_model.model.config import preset
from more_model.model.inventory import export_tensors
from more_model.model.more import build_more
from more_model.tokenizer import train_tokenizer
from server.commands.export import export
from server.export import export_run
from server.federation_file import read_federation
from server.journal import Journal, Participation, RoundRecord

SMALL = {
    "preprocessing": {"image_size": 16, "ecg_rate_hz": 50, "ecg_seconds": 1},
    "xray": {"width": 16, "depth": 1, "heads": 2, "patch_size": 8},
    "ecg": {"width": 16, "depth": 1, "heads": 2, "channels": 8, "kernel": 5, "stride": 5, "second_stride": 2},
    "text": {"width": 16, "depth": 1, "heads": 2, "vocabulary": 300, "max_tokens": 48},
    "heads": {"hidden": 16, "embedding": 8},
    "lora": {"rank": 2},
}
SECRETS = {
    "webhooks": ["https://chat.example.org/hook/verysecret"], "email_to": ["a@example.org"],
    "email_from": "b@example.org", "smtp_server": "mail.example.org:25",
}  # fmt: skip


@dataclass(frozen=True)
class Run:
    """A federation with three closed rounds; ``tensors[number]`` are those after a round."""

    folder: Path
    tensors: list[TensorDict]

    def end(self, best: int | None) -> None:
        ended = {"run": "1", "best_round": best, "status": "complete", "stopped_early": False}
        (self.folder / "state" / "run" / "ended.json").write_text(json.dumps(ended))


def _write_journal(folder: Path) -> list[TensorDict]:
    """In the place of the one that has no model."""
    run = folder / "state" / "run"
    built = assemble(load_base(folder / "base"), "ffa", read_federation(folder).public_seed)
    tensors = [export_tensors(built.model)]
    (run / "journal.sqlite").unlink()
    shutil.rmtree(run / "checkpoints")
    with closing(Journal(run, run=_facts(folder))) as journal:
        for number in (1, 2, 3):
            tensors.append({name: value + np.float32(number) for name, value in tensors[0].items()})
            parts = (
                Participation("north", "accepted"),
                Participation("south", "absent" if number == 2 else "accepted"),
            )
            journal.close_round(RoundRecord(number, parts, 1.0, 0.7, 100, 2.0), tensors[-1])
    return tensors


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = write_federation(tmp_path_factory.mktemp("written") / "federation", notifications=SECRETS)
    config, tokenizer = preset("tiny", SMALL), train_tokenizer(["heart lungs rhythm"], 300)
    model = build_more(config, seed=1, pad_id=int(tokenizer.pad_token_id))
    save_base(Base(config, model, tokenizer, "Seeded."), folder / "base")
    return Run(folder, _write_journal(folder))


@pytest.fixture
def run(written: Run, tmp_path: Path) -> Run:
    return Run(Path(shutil.copytree(written.folder, tmp_path / "federation")), written.tensors)


@pytest.fixture
def invoke() -> Callable[..., Result]:
    app = typer.Typer()
    app.command()(export)
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_an_ended_run_with_its_models(run: Run, tmp_path: Path, invoke: Callable[..., Result]) -> None:
    run.end(best=2)
    (run.folder / "state" / "run" / "events.jsonl").write_text('{"event": "round closed"}\n')
    out = tmp_path / "out"
    done = invoke(run.folder, "--to", out)
    assert done.exit_code == 0, done.output
    assert "3 rounds, run ended, complete" in done.output
    summary = json.loads((out / "summary.json").read_text())
    assert [each["round"] for each in summary["rounds"]] == [1, 2, 3]
    assert summary["participation"] == {"north": {"asked": 3, "accepted": 3}, "south": {"asked": 3, "accepted": 2}}
    assert summary["exchange"] == {"bytes_up_total": 300, "bytes_up_per_site_round": 60}
    assert [each["round"] for each in summary["evaluations"]] == [2, 3]
    assert (
        summary["privacy"]["by_plan"]["north"]["rounds"] == 3 and summary["privacy"]["by_plan"]["north"]["epsilon"] > 0
    )
    assert {path.name for path in out.iterdir()} == {
        "config.toml", "environment.json", "events.jsonl", "summary.json", "checkpoints",
    }  # fmt: skip
    for name, number in (("best", 2), ("last", 3)):
        file = out / "checkpoints" / f"{name}.safetensors"
        model = summary["models"][name]
        assert model["round"] == number and model["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
        recorded = run.folder / "state" / "run" / "checkpoints" / f"round-000{number}.safetensors"
        assert model["journal"] == hashlib.sha256(recorded.read_bytes()).hexdigest()
        loaded = export_tensors(load_checkpoint(file, base=run.folder / "base").model)
        assert {key: value.tobytes() for key, value in loaded.items()} == {
            key: value.tobytes() for key, value in run.tensors[number].items()
        }


def test_the_base_may_lie_beside_the_models(run: Run, tmp_path: Path) -> None:
    export_run(read_federation(run.folder), tmp_path / "out")
    shutil.copytree(run.folder / "base", tmp_path / "out" / "base")
    assert load_checkpoint(tmp_path / "out" / "checkpoints" / "last.safetensors").adapted


def test_no_secret_and_no_path_of_this_machine_is_in_it(run: Run, tmp_path: Path) -> None:
    run.end(best=None)
    export_run(read_federation(run.folder), tmp_path / "out")
    content = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())
    for secret in (b"verysecret", b"a@example.org", b"mail.example.org", str(tmp_path).encode(), b"PRIVATE KEY"):
        assert secret not in content, secret
    config = tomllib.loads((tmp_path / "out" / "config.toml").read_text())
    assert config["base"] == "base" and config["rounds"]["rounds"] == 8 and config["privacy"]["target_epsilon"] == 4.0
    # Taken from elsewhere, it is a federation file again.
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "federation.toml").write_text(tomli_w.dumps(config))
    assert read_federation(tmp_path / "again").privacy == read_federation(run.folder).privacy


def test_a_run_that_goes_on_has_its_last_model_and_no_best(run: Run, tmp_path: Path) -> None:
    with closing(Journal(run.folder / "state" / "run", run=_facts(run.folder))) as journal:
        summary = export_run(read_federation(run.folder), tmp_path / "out")
        assert len(journal.rounds()) == 3
    assert (summary["status"], summary["ended"], list(summary["models"])) == ("partial", None, ["last"])


def test_where_the_start_was_the_best_it_is_the_start(run: Run, tmp_path: Path) -> None:
    run.end(best=0)
    best = export_run(read_federation(run.folder), tmp_path / "out")["models"]["best"]
    assert (best["round"], best["journal"]) == (0, None)
    loaded = export_tensors(load_checkpoint(tmp_path / "out" / best["file"], base=run.folder / "base").model)
    assert all(value.tobytes() == run.tensors[0][name].tobytes() for name, value in loaded.items())


def test_what_cannot_be_exported_leaves_nothing(run: Run, tmp_path: Path) -> None:
    settings = read_federation(run.folder)
    with pytest.raises(ConfigError, match="there already, and not empty"):
        export_run(settings, run.folder)
    with pytest.raises(ExchangeError, match="is not the base that this run was started with"):
        export_run(settings.model_copy(update={"public_seed": 5}), tmp_path / "out")
    with pytest.raises(RoundError, match="otherwise than when the run began: seed"):
        export_run(settings.model_copy(update={"seed": settings.seed + 1}), tmp_path / "out")
    (run.folder / "state" / "run" / "checkpoints" / "round-0003.safetensors").write_bytes(b"other")
    with pytest.raises(RoundError, match="the checkpoint of round 3"):
        export_run(settings, tmp_path / "out")
    shutil.rmtree(run.folder / "state")
    with pytest.raises(ConfigError, match="there is no run here yet"):
        export_run(settings, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["federation"]


def _facts(folder: Path) -> dict[str, str]:
    built = assemble(load_base(folder / "base"), "ffa", read_federation(folder).public_seed)
    return {**read_federation(folder).run_facts, "fingerprint": built.fingerprint.digest()}
