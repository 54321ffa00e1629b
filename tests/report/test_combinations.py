"""What broke, by stage, pattern and attention."""

import pytest

from nas.architecture import StageFusion
from nas.report.combinations import combinations, combinations_table

from .synthetic import P1_SE, architecture, event, record


def test_combinations_count_reasons_and_steps() -> None:
    cbam = architecture(StageFusion(pattern="p2", attention="cbam"))
    spike, nan = (
        event(*losses, signal=name) for losses, name in (((1.0,) * 11, "loss-spike"), ((1.0,) * 3, "non-finite"))
    )
    records = (
        record(0, 0.9, architecture=cbam, events=(event(1.0, signal="dead-branch"),)),
        record(1, state="pruned", reason="loss-spike", architecture=cbam, events=(spike,)),
        record(2, state="pruned", reason="non-finite", architecture=cbam, events=(nan,)),
        record(
            3, state="pruned", reason="loss-spike", architecture=cbam, events=(event(1.0, signal="dead-branch"), spike)
        ),
        record(4, 0.9, architecture=architecture(P1_SE)),
        record(5, state="running", architecture=cbam),
    )
    rows = {(row.stage, row.pattern, row.attention): row for row in combinations(records)}
    assert list(rows) == [(1, "p1", "se"), (1, "p2", "cbam"), *((stage, "none", None) for stage in (2, 3, 4))]
    row = rows[1, "p2", "cbam"]
    assert (row.num_unstable, row.num_trials, row.median_step) == (3, 4, 20)
    assert row.reasons == (("loss-spike", 2), ("non-finite", 1))
    assert row.low == pytest.approx(0.3006, abs=1e-4)
    assert row.high == pytest.approx(0.9544, abs=1e-4)
    assert rows[1, "p1", "se"].median_step is None
    assert row.to_dict()["reasons"] == {"loss-spike": 2, "non-finite": 1}
    line = next(line for line in combinations_table(list(rows.values())).splitlines() if "cbam" in line)
    assert " ".join(line.split()) == "1 p2 cbam 4 3 75% [30%, 95%] 20 2 loss-spike, 1 non-finite"
