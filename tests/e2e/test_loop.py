"""The whole loop over real processes with small sizes: documents to an adapter behind an endpoint, and back."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import yaml
from openai import NotFoundError, OpenAI

from anneal.cli.__main__ import main
from tests.e2e.small_loop import EXAMPLE, ROOT, anneal, samples
from tests.fixtures.local_system import System

pytestmark = [pytest.mark.e2e, pytest.mark.ray, pytest.mark.vllm, pytest.mark.timeout(900)]


def test_the_loop_ends_with_a_report(looped: Any) -> None:
    _, folder, _, ran = looped
    report = json.loads((folder / "report" / "report.json").read_text())
    assert report["outcome"] == "succeeded"
    assert "refused, as it must be: GATE_CLOSED" in ran.stdout
    assert [judgement["verdict"] for judgement in report["judgements"]] == ["GO"]
    answers = {answer["text"] for question in report["questions"] for answer in question["answers"]}
    assert len(answers) == 1, "gRPC and HTTP, streamed and not, must answer alike at temperature 0"
    assert [hop["kind"] for hop in report["lineage"]][-1] == "document"
    for dataset in report["datasets"]:
        left = sum(removal["rows"] for removal in dataset["removed"])
        assert dataset["rows_in"] == sum(dataset["splits"].values()) + left + dataset["quarantined"]
    assert report["trainings"][0]["parity"]["passed"]
    assert report["trainings"][0]["parity"]["max_logprob_difference"] <= 1e-5
    page = (folder / "report" / "index.html").read_text()
    assert page.count("data:image/") >= 3, "the page carries its three plots itself"


def test_a_second_run_does_nothing_again(looped: Any) -> None:
    system, folder, recipe, _ = looped
    ran = anneal(system, "run", str(recipe), "--report", str(folder / "again"))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    steps = json.loads((folder / "again" / "report.json").read_text())["steps"]
    work = ("import", "ingest", "synthesize", "curate", "decontaminate", "train", "evaluate", "deploy")
    assert {step["state"] for step in steps if step["name"].startswith(work)} == {"skipped"}


def test_the_script_of_helm_test_gets_a_completion_of_the_real_engine(looped: Any) -> None:
    system, _, _, _ = looped
    script = ROOT / "charts" / "anneal" / "files" / "round_trip.py"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "ANNEAL_TOKENS": '["none-is-asked-for"]',
        "ANNEAL_ADDRESSES": json.dumps(dict.fromkeys(("registry", "ingestion", "serving"), system.grpc)),
        "GATEWAY": f"http://{system.http}",
        "PROJECT": "python-docs",
        "PATIENCE_S": "120",
    }
    ran = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=300, env=environment, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "projects/python-docs/models/anneal-tiny answers" in ran.stdout
    assert ran.stdout.endswith("round trip: the gateway answers\n")


def test_every_list_and_show_speaks_to_people_and_to_programs(looped: Any) -> None:
    system, _, _, _ = looped
    for group in ("datasets", "models", "adapters", "deployments", "evaluations", "benchmarks", "jobs"):
        listed = anneal(system, "--project", "python-docs", group, "list", "--json")
        assert listed.returncode == 0, listed.stderr
        assert json.loads(listed.stdout), group
        assert anneal(system, "--project", "python-docs", group, "list").stdout.strip() not in ("", "none")
    shown = anneal(system, "--project", "python-docs", "adapters", "show", "kind", "--json")
    adapter = json.loads(shown.stdout)
    graph = anneal(system, "--project", "python-docs", "lineage", adapter["name"])
    assert "trained_on" in graph.stdout
    removed = anneal(
        system, "--project", "python-docs", "datasets", "rows", "kind-split", "--part", "removed", "--json"
    )
    rows = json.loads(removed.stdout)
    assert rows
    assert all(row["removed_reason"] for row in rows)
    said = anneal(system, "--project", "python-docs", "chat", "kind", "What is this? os.path.join(path, *paths)")
    assert said.returncode == 0, said.stderr
    assert said.stdout.strip()


def run_here(system: System, *words: str) -> tuple[int, str, str]:
    """Run the command inside this process, which spares the seconds of its start: exit code, output, complaints."""
    argv = ["anneal", "--address", system.grpc, "--project", "python-docs", *words]
    out, complaints = io.StringIO(), io.StringIO()
    with mock.patch.object(sys, "argv", argv), redirect_stdout(out), redirect_stderr(complaints):
        try:
            main()
        except SystemExit as ended:
            return int(ended.code or 0), out.getvalue(), complaints.getvalue()
    raise AssertionError("the command always ends with an exit code")


def spoken(system: System, *words: str) -> Any:
    """What a command says under `--json`, as the value it is."""
    code, out, complaints = run_here(system, *words, "--json")
    assert code == 0, f"{words}: {complaints}"
    return json.loads(out)


def refused(system: System, *words: str) -> str:
    """The one line a command is refused with under `--json`, beside an empty standard output."""
    code, out, complaints = run_here(system, *words, "--json")
    assert (code, out) == (1, ""), f"{words}: {out}"
    (line,) = complaints.splitlines()
    assert line.startswith("anneal: ")
    return line


def written(path: Path, value: Any) -> str:
    path.write_text(yaml.safe_dump(value))
    return str(path)


def test_up_says_as_json_where_it_listens(looped: Any) -> None:
    system, _, _, _ = looped
    assert json.loads(system.said.read_text()) == system.state


def test_documents_become_a_benchmark_as_json(looped: Any) -> None:
    system, folder, _, _ = looped
    page = folder / "page.md"
    page.write_text("# Notes\n\nA page of its own, with enough words to be kept as a document.\n")
    documents = spoken(system, "ingest", "json-pages", str(page))
    assert (documents["kind"], documents["row_count"]) == ("DATASET_KIND_DOCUMENT", "1")
    rows = folder / "rows.jsonl"
    # An empty instruction is legal, and must come through training and its comparison with serving.
    silent = {"role": "system", "content": ""}
    pairs = [[{"role": "user", "content": f"q {i}"}, {"role": "assistant", "content": f"a {i}"}] for i in range(40)]
    rows.write_text("\n".join(json.dumps({"messages": [silent, *pair]}) for pair in pairs))
    assert spoken(system, "ingest", "json-examples", str(rows), "--rows")["row_count"] == "40"
    tasks = yaml.safe_load((EXAMPLE / "tasks.yaml").read_text())["tasks"]
    task = next({**task, "max_rows": 30} for task in tasks if task["name"] == "summary")
    recipe = written(folder / "recipe-json.yaml", {"generator": "template", "params": {"tasks": [task]}})
    made = spoken(system, "synthesize", "json-rows", "pages", recipe)
    assert made["name"].startswith("projects/python-docs/datasets/json-rows/versions/")
    steps = [{"step": "exact_duplicates", "params": {"part": "prompt"}}, {"step": "split", "params": {"test": 0.2}}]
    pipeline = written(folder / "pipeline.yaml", {"steps": steps})
    curated = spoken(system, "curate", "json-split", pipeline, "json-examples")
    assert {"train", "test"} <= set(curated["split_row_counts"])
    made = spoken(system, "benchmarks", "create", "json-bench", "json-split", "--metric", "perplexity")
    assert made["name"] == "projects/python-docs/benchmarks/json-bench"
    for group, known in (("datasets", "json-split"), ("benchmarks", "json-bench"), ("models", "anneal-tiny")):
        assert any(known in one["name"] for one in spoken(system, group, "list"))
        assert known in spoken(system, group, "show", known)["name"]
    assert len(spoken(system, "datasets", "rows", "json-split", "--limit", "3")) == 3


def test_training_to_deployment_as_json(looped: Any) -> None:
    system, folder, _, _ = looped
    spec = written(folder / "spec.yaml", {"method": "lora", "max_steps": 2, "max_rows": 16, "max_length": 512})
    chosen = ("json-split", "--base-model", "anneal-tiny", "--spec", spec)
    assert int(spoken(system, "plan", *chosen)["step_count"]) in (1, 2)
    adapter = spoken(system, "train", "json-adapter", *chosen)
    assert adapter["parity"]["passed"]
    rule = {"benchmark": "projects/python-docs/benchmarks/json-bench", "metric": "perplexity", "min_gain": 1e9}
    policy = written(folder / "policy.yaml", {"rules": [rule], "min_scored_rows": 2})
    judged = spoken(system, "evaluate", "json-eval", "json-adapter", "--benchmark", "json-bench", "--policy", policy)
    assert judged["verdict"] != "VERDICT_GO"
    assert "GATE_CLOSED" in refused(system, "deploy", "json-bot", "json-adapter", "--evaluation", "json-eval")
    go = next(one["name"] for one in spoken(system, "evaluations", "list") if one["verdict"] == "VERDICT_GO")
    deployed = spoken(system, "deploy", "json-bot", "kind", "--evaluation", go)
    assert deployed["name"] == "projects/python-docs/deployments/json-bot"
    assert spoken(system, "deployments", "show", "json-bot") == deployed
    assert any(one["name"] == deployed["name"] for one in spoken(system, "deployments", "list"))
    assert spoken(system, "evaluations", "show", "json-eval")["name"] == judged["name"]
    assert spoken(system, "adapters", "show", "json-adapter")["digest"] == adapter["digest"]
    answer = spoken(system, "chat", "json-bot", "What is this? os.path.join(path, *paths)", "--max-tokens", "4")
    assert answer["answerer"]["deployment"] == deployed["name"]
    edges = spoken(system, "lineage", adapter["name"])
    assert "trained_on" in {edge["relation"] for edge in edges}
    (row,) = spoken(system, "datasets", "rows", "kind", "--split", "train", "--limit", "1")
    places = spoken(system, "lineage", row["id"])
    assert any(deployed["adapter_version"] in place["adapter_versions"] for place in places)


def test_jobs_are_listed_watched_and_cancelled_as_json(looped: Any) -> None:
    system, folder, _, _ = looped
    spec = written(folder / "long.yaml", {"method": "lora", "epochs": 1000})
    words = ("train", "json-endless", "kind", "--base-model", "anneal-tiny", "--spec", spec)
    with ThreadPoolExecutor(1) as pool:
        training = pool.submit(anneal, system, "--project", "python-docs", *words, "--json")
        while not (now := [job for job in spoken(system, "jobs", "list", "--kind", "train") if _runs(job)]):
            assert not training.done()
            time.sleep(0.2)
        (job,) = now
        assert spoken(system, "jobs", "cancel", job["name"])["name"] == job["name"]
        assert "the job was cancelled" in refused(system, "jobs", "watch", job["name"])
        ended = training.result(timeout=60)
    assert (ended.returncode, ended.stdout, len(ended.stderr.splitlines())) == (1, "", 1)
    listed = {one["name"]: one["state"] for one in spoken(system, "jobs", "list", "--kind", "train")}
    assert listed[job["name"]] == "JOB_STATE_CANCELLED"
    for done in spoken(system, "jobs", "list", "--kind", "ingest"):
        assert spoken(system, "jobs", "watch", done["name"])["done"]


def _runs(job: dict[str, Any]) -> bool:
    return bool(job["state"] == "JOB_STATE_RUNNING")


def test_errors_are_one_clear_line(looped: Any) -> None:
    system, folder, _, _ = looped
    wrong = anneal(system, "--project", "python-docs", "chat", "nobody", "hello")
    assert wrong.returncode == 1
    assert len(wrong.stderr.strip().splitlines()) == 1
    assert "nobody" in wrong.stderr
    assert "DEPLOYMENT_MISSING" in wrong.stderr
    bad = folder / "bad.yaml"
    bad.write_text("title: x\nproject: p\ntasks: []\nsurprise: 1\n")
    refused = anneal(system, "run", str(bad))
    assert refused.returncode == 1
    assert "surprise" in refused.stderr
    again = subprocess.run(
        [sys.executable, "-m", "anneal.cli", "up", "--data-dir", str(folder / "data")],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        check=False,
    )
    assert again.returncode == 1
    assert "already runs" in again.stderr


def test_the_gateway_knows_its_models_and_says_so_otherwise(looped: Any) -> None:
    system, folder, _, _ = looped
    client = OpenAI(base_url=f"http://{system.http}/v1", api_key="unused")
    with pytest.raises(NotFoundError) as missing:
        client.chat.completions.create(model="nobody", messages=[{"role": "user", "content": "hello"}])
    assert missing.value.code == "model_not_found"
    metrics = (folder / "metrics.txt").read_text()
    names = ["grpc_server_handled_total", "anneal_jobs", "anneal_rows_total", "anneal_job_tokens_total"]
    for name in [*names, "anneal_training_loss"]:
        assert any(value > 0 for value in samples(metrics, name)), name
