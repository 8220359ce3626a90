import pytest

from livseg_lib.inference.cascade import LEARNT, PARTS
from livseg_lib.postprocessing.components import FINISHES
from livseg_lib.systems import CASCADES, SYSTEMS, looks_twice, published_beside, published_rows


def test_every_row_says_under_which_protocol():
    rows = published_rows()
    assert list(rows) == ["system", "source", "target", "metric", "value", "protocol", "note"]
    assert (rows[["system", "metric", "protocol"]] != "").all(axis=None) and rows["value"].gt(0).all()
    assert set(rows["target"]) <= {"liver", "tumor", "both", ""}
    assert not rows.duplicated(["system", "source", "target", "metric", "protocol"]).any()


@pytest.mark.parametrize("name, system", SYSTEMS.items())
def test_every_record_is_whole(name, system):
    assert system.name == name and system.sentence.endswith(".")
    assert bool(system.network) == bool(system.paper) == bool(system.small)
    rows = published_rows()
    if system.source.metric:
        of_system = (rows.source == system.source.letter) & (rows.system == system.source.title)
        assert system.source.metric in set(rows[of_system].metric)


@pytest.mark.parametrize("plan", [plan for plans in CASCADES.values() for plan in plans])
def test_every_step_of_a_cascade_can_be_built(plan):
    assert plan.part in PARTS
    if plan.part == "finish":
        assert plan.using in FINISHES
    elif plan.part not in LEARNT:
        assert PARTS[plan.part](None, plan.using).structures == ()


def test_the_published_figure_that_stands_beside_ours():
    tumor = {"source": "C", "published_value": 0.85}
    tumor["published_metric"] = "dice, 200 LiTS slices with tumour, split by slice"
    assert published_beside("unet", "tumor") == tumor
    assert published_beside("unet", "liver") == {"source": "C"}  # nobody published its liver
    assert published_beside("unet++", "liver")["published_value"] == 0.936  # of the validation set
    assert published_beside("deeplabv3+", "tumor")["published_metric"].startswith("iou, validation set")
    assert published_beside("attention_unet", "tumor") == {"source": "B"}
    assert published_beside("somebody's", "tumor") == {"source": ""}


def test_what_is_made_of_steps_is_told_from_networks_also_of_ones_own():
    assert all(map(looks_twice, (*CASCADES, "best", "liver-ct")))
    assert not any(map(looks_twice, ("unet", "threshold", "my_network")))
