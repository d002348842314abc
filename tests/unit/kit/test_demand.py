"""What an order asks of its machine."""

from __future__ import annotations

from anneal.kit.jobs.demand import Demand, demand_of
from anneal.v1 import curation_service_pb2 as curation
from anneal.v1 import demand_pb2, job_service_pb2


def test_an_order_says_what_it_wants() -> None:
    said = demand_pb2.Demand(cpu="1", memory="2Gi", gpus=0, node_selector={"zone": "a"}, queue="night")
    wanted = Demand(cpu="1", memory="2Gi", gpus=0, node_selector={"zone": "a"}, queue="night", ray_workers=2)
    assert demand_of(curation.CurateDatasetRequest(demand=said), ray_workers=2) == wanted


def test_an_order_that_says_nothing_takes_what_is_set() -> None:
    assert demand_of(curation.CurateDatasetRequest()) == Demand()
    assert demand_of(job_service_pb2.WatchJobRequest()) == Demand()  # it has no such field
