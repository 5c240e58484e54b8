"""What the server holds against the records that were published."""

from __future__ import annotations

import json

import msgspec

from trainoff.benchmarks.record import from_json
from trainoff.leaderboards.publishing.run_content import content_of


def expect_whole(server, made, project="p"):
    """Each record is one run, and the run is the record: nothing missing, nothing twice."""
    runs = server.runs[project]
    for record in made:
        content = content_of(record)
        run = server.run_of(project, record.trial.id)
        rows = [{k: v for k, v in row.items() if k != "_step"} for row in run.history]
        assert rows == content.rows, f"{rows} are not {content.rows}"
        assert [row["_step"] for row in run.history] == list(range(1, len(rows) + 1))
        assert run.rewritten == []
        assert run.values == without_empty(json.loads(msgspec.json.encode(content.config)))
        assert run.summary | content.summary == run.summary, "each figure of the record, as it is there"
        assert set(run.summary) - set(content.summary) <= {key for row in rows for key in row}
        assert (run.display_name, run.group, run.job_type) == (content.name, content.group, content.job_type)
        assert run.tags == content.tags
        assert run.state == ("finished" if record.status == "ok" else "failed")
        assert from_json(run.files["trainoff-record.json"]) == record
    assert len([run for run in runs.values() if run.job_type != "board"]) == len(made)


def without_empty(node):
    """As W&B keeps a config: a mapping without keys is none."""
    if not isinstance(node, dict):
        return node
    return {key: without_empty(value) for key, value in node.items() if value != {}}
